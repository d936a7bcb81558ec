import fc from 'fast-check';
import type { Action, ChainPlan, Match, Pod, RedirectionPlan, RulePlan } from '../../src/redirection/index.ts';

const hooks = {
  raw: ['prerouting', 'output'],
  mangle: ['prerouting', 'input', 'forward', 'output', 'postrouting'],
  nat: ['prerouting', 'output', 'postrouting'],
  filter: ['input', 'forward', 'output'],
} as const;

/**
 * Plans of every rule that all renderings can say: each condition and action in every table and hook that the kernel allows it in.
 * One role, `node`, without links and routes.
 */
export const randomPlan = fc.array(chain(false), { minLength: 1, maxLength: 5 }).chain(planOf);

/** The same with what iptables cannot say. */
export const randomNftPlan = fc.array(chain(true), { minLength: 1, maxLength: 5 }).chain(planOf);

function planOf(chains: readonly ChainPlan[]): fc.Arbitrary<RedirectionPlan> {
  return fc
    .record({
      families: fc.constantFrom([4] as const, [4, 6] as const),
      pods: fc.uniqueArray(pod(), { selector: ({ ip }) => ip, maxLength: 6 }),
    })
    .map(({ families, pods }): RedirectionPlan => {
      const known = new Map(chains.map((chain) => [`${chain.table} ${chain.hook}`, chain]));
      let count = 0;
      const named = [...known.values()].map((chain) => ({
        ...chain,
        rules: chain.rules.map((rule) => ({ ...rule, id: `rule-${++count}` })),
      }));
      const sets = [
        { name: 'pods', family: 4 },
        { name: 'pods-v6', family: 6 },
      ] as const;
      return {
        name: 'random',
        families,
        links: [],
        sides: [
          {
            role: 'node',
            addresses: [],
            sysctls: [],
            routes: [],
            policyRules: [],
            sets: sets.slice(0, families.length),
            // Without IPv6 there is no set for it, and so no condition on one.
            chains: families.length === 2 ? named : named.map(withoutSet6),
          },
        ],
        pods: {
          role: 'node',
          set: 'pods',
          ...(families.length === 2 ? { set6: 'pods-v6' } : {}),
          sysctls: [],
          list: families.length === 2 ? pods : pods.filter(({ ip }) => !ip.includes(':')),
        },
      };
    });
}

function chain(isNft: boolean): fc.Arbitrary<ChainPlan> {
  const places = Object.entries(hooks).flatMap(([table, names]) =>
    names.map((hook) => ({ table, hook }) as Pick<ChainPlan, 'table' | 'hook'>),
  );
  return fc.constantFrom(...places).chain((where) =>
    fc.record({
      name: fc.constant(`random-${where.hook.toUpperCase()}`),
      table: fc.constant(where.table),
      hook: fc.constant(where.hook),
      place: fc.constantFrom('before-others', 'beside-others'),
      rules: fc.array(rule(where, isNft), { maxLength: 6 }),
    }),
  );
}

function rule(where: Pick<ChainPlan, 'table' | 'hook'>, isNft: boolean): fc.Arbitrary<RulePlan> {
  return fc.record({ matches: matches(where.hook, isNft), action: action(where) }).map(({ matches: some, action }) => {
    // NAT to a port and TPROXY need to know the protocol, a save the bits.
    const needed: Match[] = [];
    if ('port' in action) needed.push({ on: 'protocol', protocol: 'tcp' });
    if (action.do === 'save-mark') needed.push({ on: 'mark', value: action.mask, mask: action.mask });
    const kinds = new Set(needed.map(kindOf));
    return { id: '', matches: [...needed, ...some.filter((match) => !kinds.has(kindOf(match)))], action };
  });
}

/** One of a kind in a rule: iptables takes a protocol once. */
function kindOf({ on }: Match): Match['on'] {
  return on === 'tcp-syn' ? 'protocol' : on;
}

function matches(hook: ChainPlan['hook'], isNft: boolean): fc.Arbitrary<Match[]> {
  const incoming = hook === 'prerouting' || hook === 'input' || hook === 'forward';
  const outgoing = hook === 'output' || hook === 'postrouting' || hook === 'forward';
  const not = fc.boolean().map((value) => (value ? { not: true } : {}));
  const kinds: fc.Arbitrary<Match>[] = [
    fc
      .tuple(fc.constantFrom('mark', 'connmark'), mark(), not)
      .map(([on, value, rest]): Match => ({ on, ...value, ...rest })),
    fc.tuple(fc.constantFrom('tcp', 'udp'), ports(), not).map(([protocol, port, rest]): Match => {
      return Object.keys(port).length === 0
        ? { on: 'protocol', protocol }
        : { on: 'protocol', protocol, ...port, ...rest };
    }),
    fc
      .tuple(fc.constantFrom('source', 'destination'), ends(), not)
      .map(([on, both, rest]): Match => ({ on, ...both, ...rest })),
    fc.constantFrom('source-set', 'destination-set').map((on): Match => ({ on, set: 'pods', set6: 'pods-v6' })),
    fc.constantFrom<Match>({ on: 'established' }, { on: 'source-local' }, { on: 'tcp-syn' }),
  ];
  const device = fc.constantFrom('eth0', 'istioin', 'a.b-c_d', '0123456789abcde');
  if (isNft) {
    const ends = fc.constantFrom('original-source-set', 'reply-source-set');
    kinds.push(ends.map((on): Match => ({ on, set: 'pods', set6: 'pods-v6' })));
  }
  if (incoming) {
    kinds.push(fc.tuple(device, not).map(([name, rest]): Match => ({ on: 'in-interface', name, ...rest })));
  }
  if (outgoing) {
    kinds.push(fc.tuple(device, not).map(([name, rest]): Match => ({ on: 'out-interface', name, ...rest })));
  }
  if (hook === 'output' || hook === 'postrouting') kinds.push(fc.constant<Match>({ on: 'own-socket' }));
  return fc.uniqueArray(fc.oneof(...kinds), { selector: kindOf, maxLength: 4 });
}

function action({ table, hook }: Pick<ChainPlan, 'table' | 'hook'>): fc.Arbitrary<Action> {
  const port = fc.integer({ min: 1, max: 65_535 });
  const ends: fc.Arbitrary<Action>[] = [fc.constantFrom<Action>({ do: 'accept' }, { do: 'return' })];
  if (table !== 'nat') ends.push(fc.constant<Action>({ do: 'drop' }));
  if (table === 'raw') ends.push(fc.integer({ min: 1, max: 65_535 }).map((zone): Action => ({ do: 'zone', zone })));
  if (table === 'mangle') {
    ends.push(fc.tuple(fc.constantFrom('mark', 'connmark'), mark()).map(([kind, value]) => ({ do: kind, ...value })));
    ends.push(bits().map((mask): Action => ({ do: 'save-mark', mask })));
    ends.push(fc.constant<Action>({ do: 'restore-mark' }));
    if (hook === 'prerouting') {
      const to = fc.oneof(fc.constant({}), fc.constant({ ip: '127.0.0.1', ip6: '::1' }));
      const tproxy = fc.tuple(to, port, mark());
      ends.push(tproxy.map(([ip, port, mark]) => ({ do: 'tproxy', ...ip, port, mark, otherwise: 'drop' })));
    }
  }
  if (table === 'nat') {
    ends.push(fc.constant<Action>({ do: 'no-nat' }));
    const to = { ip: '192.0.2.7', ip6: 'fd00::7' };
    if (hook === 'postrouting') ends.push(fc.constant<Action>({ do: 'snat', ...to }));
    else {
      ends.push(port.map((port): Action => ({ do: 'redirect', port })));
      ends.push(port.map((port): Action => ({ do: 'dnat', ...to, port })));
    }
  }
  return fc.oneof(...ends);
}

/** Some of the bits of a mark, not none. */
function bits(): fc.Arbitrary<number> {
  return fc.oneof(fc.constantFrom(0x200, 0xfff, 0xffffffff), fc.integer({ min: 1, max: 0xffffffff }));
}

function mark(): fc.Arbitrary<{ value: number; mask: number }> {
  return fc.tuple(fc.nat(0xffffffff), bits()).map(([value, mask]) => ({ value: (value & mask) >>> 0, mask }));
}

function ports(): fc.Arbitrary<{ destinationPort?: number; sourcePort?: number }> {
  const port = fc.integer({ min: 1, max: 65_535 });
  return fc.oneof(
    fc.constant({}),
    port.map((destinationPort) => ({ destinationPort })),
    port.map((sourcePort) => ({ sourcePort })),
  );
}

/** Both families, so that no rule is in none; that rules of one family alone stay out of the other is pod mode's own test. */
function ends(): fc.Arbitrary<{ ip: string; ip6: string }> {
  return fc.nat(250).map((n) => ({ ip: `10.0.0.${n + 1}`, ip6: `fd00::${(n + 1).toString(16)}` }));
}

function pod(): fc.Arbitrary<Pod> {
  const ip = fc.tuple(fc.boolean(), fc.nat(250)).map(([six, n]) => (six ? `fd01::${n + 1}` : `10.1.0.${n + 1}`));
  return fc
    .tuple(ip, fc.option(fc.constantFrom('uid-1', 'default/sleep', 'a b'), { nil: undefined }))
    .map(([ip, comment]) => (comment === undefined ? { ip } : { ip, comment }));
}

function withoutSet6(chain: ChainPlan): ChainPlan {
  const strip = (match: Match): Match => {
    return 'set' in match ? { on: match.on, set: match.set } : match;
  };
  return { ...chain, rules: chain.rules.map((rule) => ({ ...rule, matches: rule.matches.map(strip) })) };
}
