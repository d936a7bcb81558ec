/**
 * What happens to the packets of an enrolled pod on a node of a lab: the first one of a connection to a ClusterIP, a DNS query, and a
 * packet of a connection that the proxy has answered; each with the rules it meets and the route it gets. Then the first one again,
 * followed from the pod through its node into the proxy's namespace. Needs root.
 */
import {
  explainPacket,
  followPacket,
  formatExplanation,
  formatJourney,
  type Packet,
  readKernelView,
} from '../src/explain/index.ts';
import { createLab, twoNodes } from '../src/lab/index.ts';

await using lab = await createLab(twoNodes(`example-explain-${process.pid}-`));
const pod = { source: '10.244.1.10', sourcePort: 40000 } as const;
const toService: Packet = { ...pod, protocol: 'tcp', destination: '10.96.0.105', destinationPort: 80 };
const packets: readonly (readonly [string, Packet])[] = [
  ['first packet to a ClusterIP', toService],
  ['a later one', { ...toService, state: 'established', connectionMark: 0x210 }],
  ['DNS', { ...pod, protocol: 'udp', destination: '203.0.113.10', destinationPort: 53 }],
];
for (const [what, packet] of packets) {
  const arrived: Packet = { ...packet, device: 'vethsleep' };
  const view = readKernelView(lab.namespace('node-a'), { packet: arrived });
  console.log(`${what}, on node-a:\n${formatExplanation(explainPacket(view, arrived))}`);
}
console.log(
  `the first packet, followed; nobody listens yet:\n\n${formatJourney(followPacket(lab.namespace('sleep'), toService))}`,
);
