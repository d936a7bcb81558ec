import { describe, expect, it } from 'vitest';
import type { NetworkNamespace } from '../../src/netns/index.ts';
import {
  apply,
  type Feature,
  features,
  featuresOf,
  type KernelFeatures,
  nodeMode,
  podMode,
  probe,
  requireFeatures,
} from '../../src/redirection/index.ts';
import { runIn, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { withNode } from './node-fixture.ts';

const options = { hostIp: '172.18.0.2', ztunnelIp: '10.244.1.2', ztunnelVeth: 'vethza' } as const;

/** A kernel that has everything but these. */
function without(...missing: Feature[]): KernelFeatures {
  const names = Object.keys(features) as Feature[];
  const state = (name: Feature) =>
    missing.includes(name) ? { available: false, kernel: 'ENOENT' } : { available: true };
  return Object.fromEntries(names.map((name) => [name, state(name)])) as unknown as KernelFeatures;
}

describe('featuresOf', () => {
  it('is what a plan is made of', () => {
    expect(featuresOf(nodeMode(options))).toEqual([
      'nftables',
      'set',
      'tproxy',
      'ct',
      'nat',
      'route-chain',
      'policy-routing',
      'veth',
    ]);
    const local = featuresOf(nodeMode({ ...options, tunnel: { kind: 'geneve' }, hostTraffic: 'local-source' }));
    expect(local).toEqual(expect.arrayContaining(['geneve', 'fib']));
    expect(local).not.toContain('veth');
    expect(featuresOf(podMode())).toEqual(expect.arrayContaining(['nftables-ipv6', 'redirect', 'ct-zone']));
    expect(featuresOf(podMode({ ipv6: false, captureDns: false }))).not.toContain('ct-zone');
    expect(featuresOf(podMode({ inbound: 'tproxy' }))).toEqual(expect.arrayContaining(['tproxy', 'tproxy-ipv6']));
  });
});

describe('requireFeatures', () => {
  it('lets a plan pass whose features are there, whatever else is missing', () => {
    requireFeatures(nodeMode(options), without('geneve', 'ipset', 'nftables-ipv6'));
  });

  it('names feature, kernel option, the kernel’s words and what to use instead, all of them at once', () => {
    expect(() => requireFeatures(nodeMode(options), without('tproxy', 'route-chain', 'geneve'))).toThrow(
      expect.objectContaining({
        code: 'ERR_REDIRECTION_UNSUPPORTED',
        missing: ['tproxy', 'route-chain'],
        message: expect.stringMatching(
          /TPROXY for IPv4 \(CONFIG_NFT_TPROXY, .*; the kernel says ENOENT\): redirect inside the pods/,
        ),
      }),
    );
  });
});

describeRequiring('probe', { root: true, tools: ['ip', 'nft'] }, () => {
  it('agrees with what ip can make in a namespace', async () => {
    const found = probe();
    expect(found.nftables).toEqual({ available: true });
    await withNamespaces(['probe'], (namespace) => {
      const commands: Partial<Record<Feature, string[]>> = {
        veth: ['type', 'veth'],
        geneve: ['type', 'geneve', 'id', '1', 'remote', '192.0.2.1'],
        vxlan: ['type', 'vxlan', 'id', '1', 'remote', '192.0.2.1', 'dstport', '4789'],
        bridge: ['type', 'bridge'],
        dummy: ['type', 'dummy'],
      };
      for (const [name, args] of Object.entries(commands)) {
        const can = () => runIn(namespace, 'ip', 'link', 'add', `p-${name}`, ...args);
        let made = true;
        try {
          can();
        } catch {
          made = false;
        }
        expect([name, found[name as Feature].available]).toEqual([name, made]);
      }
    });
  });

  it('leaves the namespace of its caller as it was', async () => {
    await withNamespaces(['probe'], (namespace) => {
      const shown = () => [
        runIn(namespace, 'nft', 'list', 'ruleset'),
        runIn(namespace, 'ip', 'link'),
        runIn(namespace, 'ip', 'rule'),
      ];
      const before = shown();
      namespace.run(() => probe());
      expect(shown()).toEqual(before);
    });
  });

  it('has apply refuse a plan before it changes anything', async () => {
    await withNode((node, ztunnel) => {
      // Names alone: whether a link is up the kernel says a moment late.
      const links = (namespace: NetworkNamespace) => runIn(namespace, 'ip', '-br', 'link').match(/^\S+/gm);
      const shown = () => [node, ztunnel].map((namespace) => [links(namespace), runIn(namespace, 'ip', 'rule')]);
      const before = shown();
      expect(() => apply(nodeMode(options), { node, ztunnel }, { kernel: without('tproxy') })).toThrow(
        expect.objectContaining({ code: 'ERR_REDIRECTION_UNSUPPORTED' }),
      );
      expect(shown()).toEqual(before);
    });
  });
});
