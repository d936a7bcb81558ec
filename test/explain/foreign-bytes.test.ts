import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readForeign } from '../../src/explain/foreign-expression.ts';
import type { KernelView } from '../../src/explain/index.ts';
import { PacketState } from '../../src/explain/packet-state.ts';
import { decodeMatch } from '../../src/explain/xtables/match.ts';
import { decodeTarget } from '../../src/explain/xtables/target.ts';
import { decodeLegacyTable } from '../../src/netlink/nftables/legacy-table.ts';

const view: KernelView = {
  chains: [],
  rules: [],
  sets: [],
  ipsets: [],
  policyRules: [],
  routes: [],
  links: [],
  addresses: [],
  connections: [],
  listeners: [],
  devices: {},
  forwarding6: false,
  unseen: [],
};
const bytes = fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array));
const family = fc.constantFrom(4 as const, 6 as const);
const matches = [
  'tcp',
  'udp',
  'mark',
  'connmark',
  'multiport',
  'owner',
  'addrtype',
  'conntrack',
  'state',
  'statistic',
  'iprange',
  'set',
  'comment',
  'icmp',
  'x',
];
const targets = [
  'MARK',
  'CONNMARK',
  'TPROXY',
  'REDIRECT',
  'MASQUERADE',
  'DNAT',
  'SNAT',
  'CT',
  'NOTRACK',
  'REJECT',
  'LOG',
  'X',
];

function packet(of: 4 | 6): PacketState {
  const [source, destination] = of === 4 ? ['10.0.0.1', '10.0.0.2'] : ['fd00::1', 'fd00::2'];
  return new PacketState({ source: source!, destination: destination!, protocol: 'tcp', device: 'a' });
}

describe('bytes that make no sense', () => {
  it('of a match or target are read as far as they go, or not at all; nothing is thrown', () => {
    const revision = fc.integer({ min: 0, max: 5 });
    fc.assert(
      fc.property(fc.constantFrom(...matches), revision, bytes, family, (name, number, info, of) => {
        const match = decodeMatch({ name, revision: number, info }, of);
        if (match === undefined) return;
        expect(typeof match.text).toBe('string');
        match.holds(packet(of), view);
      }),
      { numRuns: 2000 },
    );
    fc.assert(
      fc.property(fc.constantFrom(...targets), revision, bytes, family, (name, number, info, of) => {
        const target = decodeTarget({ name, revision: number, info }, of);
        target?.apply(packet(of), view, []);
      }),
      { numRuns: 2000 },
    );
  });

  it('of an expression without a codec are unknown, not an error', () => {
    const names = ['range', 'numgen', 'hash', 'byteorder', 'dynset', 'objref', 'match', 'target', 'limit', 'fwd'];
    fc.assert(
      fc.property(fc.constantFrom(...names), bytes, (name, data) => {
        expect(readForeign({ type: 'opaque', name, data }).type).toMatch(/^[a-z]+$/);
      }),
      { numRuns: 2000 },
    );
  });

  it('of a table of iptables-legacy end it', () => {
    const numbers = fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 5, maxLength: 5 });
    const entries = fc.uint8Array({ maxLength: 800 }).map((array) => Buffer.from(array));
    fc.assert(
      fc.property(family, fc.nat(31), numbers, numbers, entries, (of, validHooks, hookEntries, underflows, all) => {
        // Now and then a header that holds: a target right behind the fixed part, and a length.
        const at = of === 4 ? 88 : 140;
        if (all.length > at + 4 + 100) {
          all.writeUInt16LE(of === 4 ? 112 : 168, at);
          all.writeUInt16LE(of === 4 ? 152 : 208, at + 2);
        }
        decodeLegacyTable({ family: of, name: 'nat', validHooks, hookEntries, underflows, entries: all });
      }),
      { numRuns: 1000 },
    );
  });
});
