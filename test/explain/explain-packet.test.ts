import { describe, expect, it } from 'vitest';
import { explainPacket, formatExplanation, isComplete, type KernelView, type Packet } from '../../src/explain/index.ts';
import { type BaseChain, type Expression, match, statement, type Verdict } from '../../src/netlink/nftables/index.ts';
import type { ListedRoute, ListedRule } from '../../src/netlink/route/index.ts';

const table = { family: 'ip', name: 't' } as const;
const settings = { reversePathFilter: 0, acceptLocal: false, sourceValidMark: false, forwarding: true };
const packet: Packet = {
  source: '10.1.0.5',
  sourcePort: 1000,
  destination: '10.2.0.5',
  destinationPort: 80,
  protocol: 'tcp',
  device: 'pod',
};

function route(destination: string, device: string, more: Partial<ListedRoute> = {}): ListedRoute {
  return { family: 4, destination, device, type: 'unicast', table: 254, scope: 'link', protocol: 'boot', ...more };
}

function rule(priority: number, more: Partial<ListedRule>): ListedRule {
  return { family: 4, priority, action: 'lookup', ...more };
}

const view: KernelView = {
  chains: [],
  rules: [],
  sets: [],
  policyRules: [rule(0, { table: 255 }), rule(32766, { table: 254 }), rule(32767, { table: 253 })],
  routes: [
    route('10.1.0.0/16', 'pod'),
    route('0.0.0.0/0', 'wan', { gateway: '192.0.2.1' }),
    route('10.2.0.0/16', 'lan'),
    route('192.0.2.2/32', 'lo', { table: 255, type: 'local' }),
  ],
  links: [],
  addresses: [],
  connections: [],
  listeners: [],
  devices: { pod: settings },
  forwarding6: false,
  unseen: [],
  ipsets: [],
};

/** The view with one chain, each rule's comment its place. */
function ruled(base: Partial<BaseChain>, ...rules: Expression[][]): KernelView {
  const chain = { type: 'filter', hook: 'prerouting', priority: 0, policy: 'accept', ...base } as const;
  return {
    ...view,
    chains: [{ table, name: 'c', base: chain }],
    rules: rules.map((expressions, i) => ({ table, chain: 'c', handle: BigInt(i), expressions, comment: `r${i}` })),
  };
}

function met(of: KernelView, by: Packet = packet): string[] {
  return explainPacket(of, by).steps.flatMap((step) =>
    step.kind === 'rule' ? [`${step.comment} ${step.verdict}`] : [],
  );
}

const opaque: Expression = { type: 'opaque', name: 'limit', data: new Uint8Array() };

describe('routing', () => {
  it('takes the longest prefix, whatever the order', () => {
    expect(explainPacket(view, packet).ending).toEqual({ kind: 'forwarded', device: 'lan' });
    const far = explainPacket(view, { ...packet, destination: '198.51.100.1' });
    expect(far.ending).toEqual({ kind: 'forwarded', device: 'wan', gateway: '192.0.2.1' });
  });

  it('follows policy rules: mark, goto, an empty table, refusal', () => {
    const routes = [...view.routes, route('0.0.0.0/0', 'proxy', { table: 101 })];
    const rules = [
      rule(100, { fwmark: 0x200, fwmask: 0x200, action: 'goto', goto: 32766 }),
      rule(101, { fwmark: 0x100, fwmask: 0x100, table: 101 }),
      rule(102, { fwmark: 0x40, fwmask: 0x40, action: 'prohibit' }),
      rule(103, { table: 100 }),
    ];
    const policed = { ...view, routes, policyRules: [view.policyRules[0]!, ...rules, ...view.policyRules.slice(1)] };
    const ending = (mark: number) => explainPacket(policed, { ...packet, mark }).ending;
    expect(ending(0x100)).toEqual({ kind: 'forwarded', device: 'proxy' });
    expect(ending(0x300)).toEqual({ kind: 'forwarded', device: 'lan' });
    expect(ending(0)).toEqual({ kind: 'forwarded', device: 'lan' });
    expect(ending(0x40)).toEqual({ kind: 'dropped', reason: 'policy rule 102 leads to a route that refuses' });
  });

  it('drops what forwarding or the reverse path filter drops (node mode, traps 5 and 6)', () => {
    const ending = (change: Partial<typeof settings>, source = packet.source) =>
      explainPacket({ ...view, devices: { pod: { ...settings, ...change } } }, { ...packet, source }).ending;
    expect(ending({ forwarding: false })).toMatchObject({ reason: 'forwarding is off for pod' });
    expect(ending({ reversePathFilter: 1 })).toMatchObject({ kind: 'forwarded' });
    expect(ending({ reversePathFilter: 1 }, '10.2.0.9')).toMatchObject({
      reason: expect.stringContaining('rp_filter is 1'),
    });
    expect(ending({ reversePathFilter: 2 }, '10.2.0.9')).toMatchObject({ kind: 'forwarded' });
    expect(ending({}, '192.0.2.2')).toMatchObject({ reason: expect.stringContaining('accept_local is 0') });
    expect(ending({ acceptLocal: true }, '192.0.2.2')).toMatchObject({ kind: 'forwarded' });
  });
});

describe('rules', () => {
  it('are judged in their order, and a changed mark counts for the next', () => {
    const rules = [statement.mark(0x100, 0x100), match.mark(0x100, 0x100), [...match.mark(0), ...statement.drop()]];
    expect(met(ruled({}, ...rules))).toEqual(['r0 continue', 'r1 continue']);
  });

  it('run by priority, of equals the last one made first, nat at its own place (nf_hook_entries_grow)', () => {
    const chains = (['a', 'b', 'c', 'd'] as const).map((name, i) => ({
      table,
      name,
      base: {
        type: i === 3 ? 'nat' : 'filter',
        hook: 'prerouting',
        priority: [0, 0, -150, -140][i]!,
        policy: 'accept',
      } as const,
    }));
    const filter = { table, name: 'e', base: { ...chains[0]!.base, priority: -120 } };
    const all = [...chains, filter];
    const rules = all.map(({ name }) => ({
      table,
      chain: name,
      handle: 1n,
      comment: name,
      expressions: statement.counter(),
    }));
    expect(met({ ...view, chains: all, rules })).toEqual(['c', 'e', 'd', 'b', 'a'].map((name) => `${name} continue`));
  });

  it('that hang on something unknown end the walk, unless they certainly do not match or do nothing', () => {
    const unknown = explainPacket(ruled({}, [opaque, ...statement.drop()]), packet);
    expect(unknown.ending).toEqual({
      kind: 'unknown',
      reason: 'rule "r0" of ip t c hangs on the expression "limit", which cannot be judged',
    });
    expect(isComplete(unknown)).toBe(false);
    expect(formatExplanation(unknown)).toContain('→ cannot tell: rule "r0"');
    const elsewhere = ruled({}, [opaque, ...match.destination('10.9.9.9'), ...statement.drop()]);
    expect(explainPacket(elsewhere, packet).ending).toMatchObject({ kind: 'forwarded' });
    const { sourcePort, ...portless } = packet;
    const counts = ruled({}, [...match.sourcePort('tcp', sourcePort!), ...statement.counter()]);
    expect(explainPacket(counts, portless).ending).toMatchObject({ kind: 'forwarded' });
    expect(met(counts, portless)).toEqual(['r0 unknown']);
    expect(met(counts)).toEqual(['r0 continue']);
  });

  it('that write into the packet end the walk (NFTA_PAYLOAD_SREG)', () => {
    const writing: Expression = { type: 'payload', dreg: 0, base: 1, offset: 16, length: 4 };
    const { ending } = explainPacket(ruled({}, [writing]), packet);
    expect(ending).toEqual({
      kind: 'unknown',
      reason: 'rule "r0" of ip t c hangs on what it writes into the packet, which cannot be judged',
    });
  });

  it('ask sets of keys and of ranges; one of another kind that is not empty cannot be judged', () => {
    const asking = ruled({}, [...match.sourceInSet('s'), ...statement.counter()]);
    const key = (ip: string, end = false) => ({ key: Buffer.from(ip.split('.').map(Number)).toString('hex'), end });
    const by = (kind: 'keys' | 'ranges' | 'other', ...elements: ReturnType<typeof key>[]) => {
      const { steps, ending } = explainPacket(
        { ...asking, sets: [{ table, name: 's', kind, keyBytes: 4, elements }] },
        packet,
      );
      return [steps.some((step) => step.kind === 'rule'), ending.kind];
    };
    expect(by('keys', key('10.1.0.4'), key('10.1.0.5'))).toEqual([true, 'forwarded']);
    expect(by('keys', key('10.1.0.4'), key('10.1.0.6'))).toEqual([false, 'forwarded']);
    expect(by('ranges', key('10.1.0.0'), key('10.1.0.5', true))).toEqual([false, 'forwarded']);
    expect(by('ranges', key('10.1.0.0'), key('10.1.0.6', true))).toEqual([true, 'forwarded']);
    expect(by('ranges', key('10.1.0.0'), key('10.1.0.5', true), key('10.1.0.5'))).toEqual([true, 'forwarded']);
    expect(by('other', key('10.1.0.4'))).toEqual([true, 'unknown']);
    expect(by('other')).toEqual([false, 'forwarded']);
  });

  it('that are not looked at are a caveat', () => {
    const legacy = explainPacket(
      { ...view, unseen: ['the nftables table netdev filter', 'the services of IPVS'] },
      packet,
    );
    expect(isComplete(legacy)).toBe(false);
    expect(legacy.caveats).toEqual([expect.stringContaining('netdev filter'), expect.stringContaining('IPVS')]);
  });

  it('of iptables-legacy and of nftables at one place: nobody sees which go first (nf_hook_entries_grow)', () => {
    const both = ruled({}, statement.counter());
    const old = { family: 'ip', name: 'filter (legacy)' } as const;
    const chains = [...both.chains, { ...both.chains[0]!, table: old }];
    const rules = [...both.rules, { ...both.rules[0]!, table: old }];
    expect(explainPacket({ ...both, chains, rules }, packet).caveats).toEqual([
      expect.stringContaining('prerouting 0'),
    ]);
    expect(explainPacket(both, packet).caveats).toEqual([]);
  });

  it('that redirect in the output hook bring the packet round by lo to the listener (facts section 11.2)', () => {
    const { device, ...made } = packet;
    const routes = [...view.routes, route('127.0.0.0/8', 'lo', { table: 255, type: 'local' })];
    const listeners = [{ protocol: 'tcp', family: 4, ip: '0.0.0.0', port: 15001 }] as const;
    const redirecting = ruled({ type: 'nat', hook: 'output', priority: -100 }, statement.redirect(15001));
    const explanation = explainPacket({ ...redirecting, routes, listeners }, made);
    expect(explanation.steps.map(({ kind }) => kind)).toEqual(['route', 'connection', 'rule', 'route', 'loopback']);
    const there = { kind: 'delivered', ip: '127.0.0.1', port: 15001, tproxy: false, listening: true };
    expect(explanation.ending).toEqual(there);
  });
});

describe('verdict maps', () => {
  const byAddress = (verdict: Verdict): KernelView => {
    const elements = [{ key: '0a010005', end: false, verdict }];
    const [load] = match.source('10.1.0.5');
    const lookup = { type: 'lookup', set: 'm', sreg: 1, dreg: 0, invert: false } as const;
    const asking = ruled({}, [opaque, load!, lookup]);
    return { ...asking, sets: [{ table, name: 'm', kind: 'keys', keyBytes: 4, elements }] };
  };

  it('behind a condition that cannot be judged matter where they decide something', () => {
    expect(explainPacket(byAddress({ kind: 'drop' }), packet).ending).toMatchObject({ kind: 'unknown' });
    expect(explainPacket(byAddress({ kind: 'continue' }), packet).ending).toMatchObject({ kind: 'forwarded' });
    const { ending } = explainPacket(byAddress({ kind: 'drop' }), { ...packet, source: '10.1.0.6' });
    expect(ending).toMatchObject({ kind: 'forwarded' });
  });
});

describe('dice', () => {
  const attribute = (type: number, value: number) => Buffer.of(8, 0, type, 0, 0, 0, 0, value);
  /** `numgen random mod N` into register 1, and a verdict map of as many chains. */
  const thrown = (modulus: number): KernelView => {
    const data = Buffer.concat([attribute(1, 1), attribute(2, modulus), attribute(3, 1), attribute(4, 0)]);
    const elements = Array.from({ length: modulus }, (_, i) => ({
      key: `${i.toString(16).padStart(2, '0')}000000`,
      end: false,
      verdict: { kind: 'goto', chain: `way ${i}` } as const,
    }));
    const lookup = { type: 'lookup', set: 'ways', sreg: 1, dreg: 0, invert: false } as const;
    const throwing = ruled({}, [{ type: 'opaque', name: 'numgen', data }, lookup]);
    return { ...throwing, sets: [{ table, name: 'ways', kind: 'keys', keyBytes: 4, elements }] };
  };
  const targets = (of: KernelView, maxWays?: number) => {
    const explanation = explainPacket(of, packet, maxWays === undefined ? {} : { maxWays });
    const ways = [explanation, ...(explanation.otherwise ?? [])];
    return { ways: ways.map(({ steps }) => steps.find((step) => step.kind === 'rule')?.target), explanation };
  };

  it('have every way told, with its share', () => {
    const { ways, explanation } = targets(thrown(3));
    expect(ways).toEqual(['way 0', 'way 1', 'way 2']);
    expect(explanation.probability).toBeCloseTo(1 / 3);
    expect(isComplete(explanation)).toBe(true);
    expect(formatExplanation(explanation)).toContain('numgen random mod 3 decides: 2 of 3 (33.3 %)');
    expect(targets(thrown(1)).explanation.otherwise).toBeUndefined();
  });

  it('that fall the same way however they fall are none', () => {
    const [numgen] = thrown(4).rules[0]!.expressions;
    const compared = (op: number) =>
      explainPacket(
        ruled({}, [numgen!, { type: 'cmp', sreg: 1, op, value: Buffer.alloc(4) }, ...statement.drop()]),
        packet,
      );
    const [greaterOrEqual, less, equal] = [5, 2, 0];
    expect(compared(greaterOrEqual!)).toMatchObject({ ending: { kind: 'dropped' } });
    expect(compared(greaterOrEqual!).otherwise).toBeUndefined();
    expect(compared(less!)).toMatchObject({ ending: { kind: 'forwarded' } });
    expect(compared(less!).otherwise).toBeUndefined();
    expect(compared(equal!)).toMatchObject({
      ending: { kind: 'dropped' },
      probability: 0.25,
      otherwise: [{ probability: 0.75 }],
    });
  });

  it('of more ways than are told say so: the explanation is not complete', () => {
    const { ways, explanation } = targets(thrown(20));
    expect(ways).toHaveLength(16);
    expect(explanation.caveats).toEqual(['there are more ways by chance than the 16 that are told']);
    expect(isComplete(explanation)).toBe(false);
    expect(targets(thrown(20), 20).explanation.caveats).toEqual([]);
    const none = () => explainPacket(view, packet, { maxWays: 0 });
    expect(none).toThrow(expect.objectContaining({ code: 'ERR_EXPLAIN_INVALID', field: 'maxWays' }));
  });
});

describe('a packet', () => {
  it.each([
    [{ source: 'x' }, 'source', 'ERR_IP_ADDRESS'],
    [{ destination: 'fd00::1' }, 'destination', 'ERR_EXPLAIN_INVALID'],
    [{ destinationPort: 65536 }, 'destinationPort', 'ERR_EXPLAIN_INVALID'],
    [{ mark: -1 }, 'mark', 'ERR_EXPLAIN_INVALID'],
    [{ protocol: 'icmp' as 'tcp' }, 'protocol', 'ERR_EXPLAIN_INVALID'],
  ])('%j is refused, naming %s', (change, field, code) => {
    expect(() => explainPacket(view, { ...packet, ...change })).toThrow(expect.objectContaining({ field, code }));
  });

  it('with a mapped IPv4 address is IPv4', () => {
    expect(explainPacket(view, { ...packet, source: '::ffff:10.1.0.5' }).packet.source).toBe('10.1.0.5');
  });
});
