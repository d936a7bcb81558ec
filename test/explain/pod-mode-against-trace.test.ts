import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { explainPacket, readKernelView } from '../../src/explain/index.ts';
import { apply, podMode } from '../../src/redirection/index.ts';
import { flows, verdicts, withPodWorld } from '../redirection/pod-flows.ts';
import { describeRequiring } from '../support/require.ts';
import { NftTrace, TRACE_TABLE, type TracedPacket } from './nft-trace.ts';
import { packetOf } from './pod-packet.ts';

function keyOf(protocol: string, source: string, destination: string, port: number | string): string {
  return `${protocol} ${source} ${destination} ${port}`;
}

/** What each first packet met, by its addresses; what leaves by the loopback is joined with what comes back. */
function firstPackets(packets: readonly TracedPacket[]): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  for (const packet of packets) {
    const { fields, last } = packet;
    const protocol = fields.has('tcp sport') ? 'tcp' : 'udp';
    const isFirst = protocol === 'udp' || fields.get('tcp flags ==') === 'syn';
    if (!isFirst || fields.get('iif') === 'lo') continue;
    const sport = fields.get(`${protocol} sport`);
    const back = packets.find(
      (other) =>
        other.fields.get('iif') === 'lo' &&
        other.fields.get(`${protocol} sport`) === sport &&
        (protocol === 'udp' || other.fields.get('tcp flags ==') === 'syn'),
    );
    const loops = last?.fields.get('oif') === 'lo' && back !== undefined;
    const end = (loops ? back : packet).last?.hook ?? 'nowhere';
    const rules = [...packet.rules, ...(loops ? back.rules : [])];
    const [source, destination] = ['saddr', 'daddr'].map(
      (name) => fields.get(`ip ${name}`) ?? fields.get(`ip6 ${name}`),
    );
    const key = keyOf(protocol, source!, destination!, fields.get(`${protocol} dport`)!);
    found.set(key, (found.get(key) ?? new Set()).add(`${rules.join(', ')} → ${end}`));
  }
  return found;
}

describeRequiring(
  'explainPacket in a pod against nft monitor trace',
  { root: true, tools: ['nft', 'ip', 'stdbuf'] },
  () => {
    it.each(['redirect', 'tproxy'] as const)('thirty flows, inbound by %s', { timeout: 30_000 }, async (inbound) => {
      await withPodWorld(async (world) => {
        using _ = apply(podMode({ inbound, virtualInterfaces: ['vm0'] }), { pod: world.pod });
        const trace = await NftTrace.open(world.pod);
        const view = readKernelView(world.pod);
        const told = new Map<string, Set<string>>();
        for (const flow of flows) {
          const packet = packetOf(flow);
          const { steps, ending } = explainPacket(view, packet);
          const rules = steps.flatMap((step) =>
            step.kind === 'rule' && step.verdict !== 'break' && step.table.name !== TRACE_TABLE
              ? [`${step.comment} ${step.verdict}`]
              : [],
          );
          const end =
            ending.kind === 'sent' ? 'postrouting' : ending.kind === 'delivered' ? 'input' : JSON.stringify(ending);
          const key = keyOf(packet.protocol, packet.source, packet.destination, flow.port);
          told.set(key, (told.get(key) ?? new Set()).add(`${rules.join(', ')} → ${end}`));
        }
        trace.clear();
        await verdicts(world);
        await sleep(200);
        const traced = firstPackets(trace.packets);
        trace.close();
        const kernel = [...told.keys()].map((key) => [key, [...(traced.get(key) ?? [])].sort()]);
        expect([...told].map(([key, ends]) => [key, [...ends].sort()])).toEqual(kernel);
      });
    });
  },
);
