/**
 * What happens to the packets of an enrolled pod on a node of a lab: the first one of a connection to a ClusterIP, a DNS query, and a
 * packet of a connection that the proxy has answered; each with the rules it meets and the route it gets. Needs root.
 */
import { explainPacket, formatExplanation, type Packet, readKernelView } from '../src/explain/index.ts';
import { createLab, twoNodes } from '../src/lab/index.ts';

await using lab = await createLab(twoNodes(`example-explain-${process.pid}-`));
const pod = { source: '10.244.1.10', sourcePort: 40000, device: 'vethsleep' } as const;
const toService: Packet = { ...pod, protocol: 'tcp', destination: '10.96.0.105', destinationPort: 80 };
const packets: readonly (readonly [string, string, Packet])[] = [
  ['node-a', 'first packet to a ClusterIP', toService],
  ['node-a', 'a later one', { ...toService, state: 'established', connectionMark: 0x210 }],
  ['node-a', 'DNS', { ...pod, protocol: 'udp', destination: '203.0.113.10', destinationPort: 53 }],
  ['ztunnel-a', 'the first packet, where nobody listens yet', { ...toService, device: 'pistioout' }],
];
for (const [name, what, packet] of packets) {
  const view = readKernelView(lab.namespace(name), { packet });
  console.log(`${what}, on ${name}:\n${formatExplanation(explainPacket(view, packet))}`);
}
