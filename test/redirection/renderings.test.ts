import { expect, it } from 'vitest';
import { podMode } from '../../src/redirection/index.ts';
import { describeRequiring } from '../support/require.ts';
import { loadRendering, renderings, renderingTools } from './load-rendering.ts';
import { flows, verdicts, withPodWorld } from './pod-flows.ts';

const needs = { root: true, tools: renderingTools };

/** Who answers, by facts sections 7.2 and 11.2. */
const expected = Object.fromEntries(
  Object.entries({
    out: '15001',
    'out, of the proxy': 'outside',
    // Rule 32764 takes it for an answer to the proxy, and has it delivered here.
    'an answer’s mark': 'pod',
    loopback: 'pod',
    'own pod address': 'pod',
    DNS: '15053',
    'DNS, of the proxy': 'outside',
    'DNS by TCP': '15053',
    'DNS by TCP, of the proxy': 'outside',
    'other UDP': 'outside',
    in: '15006',
    'in, HBONE': '15008',
    'in, a probe': 'pod',
    'in, UDP': 'pod',
    'in by a virtual machine’s device': '15001',
  }).flatMap(([name, who]) => ['v4', 'v6'].map((family) => [`${family} ${name}`, who])),
);

describeRequiring('thirty flows of a pod, by each rendering', needs, () => {
  it('are thirty, and none is redirected without a plan', async () => {
    expect(flows).toHaveLength(30);
    await withPodWorld(async (world) => {
      const seen = await verdicts(world);
      expect(new Set(Object.values(seen))).toEqual(new Set(['pod', 'outside', '15008']));
    });
  });

  it.each(renderings)('podMode() by %s (facts section 7.2)', async (rendering) => {
    await withPodWorld(async (world) => {
      loadRendering(rendering, podMode({ virtualInterfaces: ['vm0'] }), { pod: world.pod });
      expect(await verdicts(world)).toEqual(expected);
    });
  });

  it.each(renderings)('podMode({ inbound: tproxy }) by %s (facts section 7.5)', async (rendering) => {
    await withPodWorld(async (world) => {
      loadRendering(rendering, podMode({ inbound: 'tproxy', virtualInterfaces: ['vm0'] }), { pod: world.pod });
      expect(await verdicts(world)).toEqual(expected);
    });
  });
});
