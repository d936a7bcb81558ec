import { expect, it } from 'vitest';
import {
  type Explanation,
  explainPacket,
  formatExplanation,
  isComplete,
  readKernelView,
} from '../../src/explain/index.ts';
import { nodeMode, podMode } from '../../src/redirection/index.ts';
import { loadRendering, renderingTools } from '../redirection/load-rendering.ts';
import { withNode } from '../redirection/node-fixture.ts';
import { flows, verdicts, withPodWorld } from '../redirection/pod-flows.ts';
import { describeRequiring } from '../support/require.ts';
import { packetOf } from './pod-packet.ts';

/** Who would answer, as `verdicts` names the listeners. */
function answers({ ending }: Explanation): string {
  if (ending.kind === 'sent') return 'outside';
  if (ending.kind !== 'delivered') return ending.kind;
  return ending.port! >= 15000 ? String(ending.port) : 'pod';
}

describeRequiring('our own rules as iptables has them', { root: true, tools: renderingTools }, () => {
  it.each([
    ['iptables-nft', 'redirect'],
    ['iptables-nft', 'tproxy'],
    ['iptables-legacy', 'redirect'],
    ['iptables-legacy', 'tproxy'],
  ] as const)(
    'thirty flows of a pod by %s, inbound by %s: whoever is said to answer does',
    { timeout: 30_000 },
    async (rendering, inbound) => {
      await withPodWorld(async (world) => {
        loadRendering(rendering, podMode({ inbound, virtualInterfaces: ['vm0'] }), { pod: world.pod });
        const view = readKernelView(world.pod);
        const explanations = flows.map(
          (flow) => [flow.name, explainPacket(view, { ...packetOf(flow), user: 0, group: 0 })] as const,
        );
        for (const [, explanation] of explanations)
          expect(isComplete(explanation), formatExplanation(explanation)).toBe(true);
        expect(Object.fromEntries(explanations.map(([name, explanation]) => [name, answers(explanation)]))).toEqual(
          await verdicts(world),
        );
      });
    },
  );

  it.each(['iptables-nft', 'iptables-legacy'] as const)(
    'a node’s, by %s: what is under way and not captured is left alone, its first packet is not',
    async (rendering) => {
      await withNode((node, ztunnel) => {
        const pods = [{ ip: '10.244.1.10', veth: 'vethpod' }];
        const plan = nodeMode({ hostIp: '172.18.0.2', ztunnelIp: '10.244.1.2', ztunnelVeth: 'vethza', pods });
        loadRendering(rendering, plan, { node, ztunnel });
        const view = readKernelView(node);
        const packet = {
          source: '10.244.1.10',
          destination: '198.51.100.1',
          protocol: 'tcp',
          device: 'vethpod',
        } as const;
        const marks = (['new', 'established'] as const).map((state) => {
          const explanation = explainPacket(view, { ...packet, state, connectionMark: 0 });
          expect(isComplete(explanation), formatExplanation(explanation)).toBe(true);
          return explanation.steps
            .flatMap((step) => (step.kind === 'rule' ? step.effects : []))
            .map((effect) => effect.kind === 'mark' && effect.after);
        });
        expect(marks).toEqual([[0x100], [0x200]]);
      });
    },
  );
});
