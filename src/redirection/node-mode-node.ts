import { CONNSKIP_MARK, OUTBOUND_MARK, PROXY_MARK, PROXYRET_MARK, SKIP_MARK } from './marks.ts';
import { both, type NodeModeOptions, podsSet } from './node-mode-options.ts';
import { DNS_PORT } from './node-mode-proxy.ts';
import type { Action, ChainPlan, Mark, Match, RulePlan } from './plan.ts';

/** The node's chains, with the numbers of facts section 7.6 in the rules' ids. */
export function nodeChains(options: NodeModeOptions, tunnelPort: number): ChainPlan[] {
  const prefix = options.name ?? 'ztunnel';
  const afterNat = (options.hostTraffic ?? 'after-nat') === 'after-nat';
  const before = 'before-others';
  return [
    {
      ...chain(prefix, 'mangle', 'prerouting', before, prerouting(options, tunnelPort, openedBefore(options))),
      iptablesRules: prerouting(options, tunnelPort, openedBeforeByAnybody),
    },
    chain(prefix, 'mangle', 'forward', before, saves('forward')),
    chain(prefix, 'mangle', 'input', before, saves('input')),
    afterNat
      ? {
          ...chain(prefix, 'mangle', 'output', 'after-nat', [hostTraffic(options, true)]),
          iptablesRules: [hostTraffic(options, false)],
        }
      : chain(prefix, 'mangle', 'output', before, [hostTraffic(options, false)]),
    // Facts section 7.6 has it, and nothing in it.
    chain(prefix, 'mangle', 'postrouting', before, []),
    chain(prefix, 'nat', 'prerouting', before, natPrerouting(options)),
    chain(prefix, 'nat', 'postrouting', before, [
      rule('nat-postrouting-1', [marked(OUTBOUND_MARK)], { do: 'no-nat' }, 'the proxy sees the pod as the source'),
    ]),
    chain(prefix, 'filter', 'forward', before, [
      rule('filter-forward-1', [marked(OUTBOUND_MARK)], { do: 'accept' }, 'on the way to the proxy'),
    ]),
  ];
}

function prerouting(options: NodeModeOptions, tunnelPort: number, spared: readonly RulePlan[]): RulePlan[] {
  const { ztunnelVeth, ztunnelIp, ztunnelIp6 } = options;
  const id = (number: number) => `prerouting-${number}`;
  const fromProxy: Match = { on: 'in-interface', name: ztunnelVeth };
  const udp: Match = { on: 'protocol', protocol: 'udp' };
  const back: Action = { do: 'return' };
  return [
    rule(id(1), [from('istioin')], mark(SKIP_MARK), 'back from the proxy: leave alone'),
    rule(id(2), [from('istioin')], back),
    rule(id(3), [from('istioout')], mark(SKIP_MARK), 'back from the proxy: leave alone'),
    rule(id(4), [from('istioout')], back),
    rule(id(5), [{ ...udp, destinationPort: tunnelPort }], back, 'the tunnel itself; copies the mark inwards'),
    rule(id(6), [connection(CONNSKIP_MARK)], mark(SKIP_MARK), 'a connection that is left alone'),
    rule(id(7), [marked(SKIP_MARK)], back),
    // Trap 10: without `not` the proxy's own packets would go in circles.
    rule(
      id(8),
      [{ ...fromProxy, not: true }, connection(PROXY_MARK)],
      mark(PROXYRET_MARK),
      'a later packet: straight to the proxy',
    ),
    rule(id(9), [marked(PROXYRET_MARK)], back),
    rule(
      id(10),
      [fromProxy, { on: 'source', ...both(ztunnelIp, ztunnelIp6), not: true }],
      mark(PROXY_MARK),
      'the proxy, with a pod’s address',
    ),
    rule(id(11), [marked(SKIP_MARK)], back),
    rule(id(12), [fromProxy], mark(CONNSKIP_MARK), 'the proxy, with its own address'),
    rule(id(13), [udp], mark(CONNSKIP_MARK), 'UDP is not captured'),
    ...spared,
    rule(id(14), [marked(SKIP_MARK)], back),
    rule(
      id(15),
      [
        { on: 'protocol', protocol: 'tcp' },
        { on: 'source-set', ...podsSet(options) },
      ],
      mark(OUTBOUND_MARK),
      'first packet of an enrolled pod: to the proxy',
    ),
  ];
}

const underWay: Match = { on: 'established' };

/**
 * Trap 3. What is under way and comes this far has no connmark, so the proxy has no part in it: of a captured connection the proxy's
 * SYN-ACK is the first packet that makes it one under way, and rule 10 and the saves have marked it by then. The connection's own ends
 * are asked for, since a packet's may be a service's or the node's here, ahead of NAT; and for enrolled pods alone, since a packet
 * with this mark passes by the policy rules of others too. It is written on the packet, not on the connection.
 */
function openedBefore(options: NodeModeOptions): RulePlan[] {
  const set = podsSet(options);
  return [
    rule(
      'prerouting-open-1',
      [underWay, { on: 'original-source-set', ...set }],
      mark(SKIP_MARK),
      'open since before its pod was enrolled',
    ),
    rule('prerouting-open-2', [underWay, { on: 'reply-source-set', ...set }], mark(SKIP_MARK)),
    newInPlaceOfOld,
  ];
}

/**
 * Without it a pod's new connection would pass the proxy by where connection tracking still knows one of the same ports: of a pod that
 * had the address before, say.
 */
const newInPlaceOfOld = rule(
  'prerouting-open-3',
  [{ on: 'tcp-syn' }, marked({ value: SKIP_MARK.value, mask: CONNSKIP_MARK.mask })],
  { do: 'mark', value: 0, mask: SKIP_MARK.mask },
  'a new connection, whatever was there before',
);

/** iptables cannot ask for the ends of a connection: there nobody's open connections are captured. */
const openedBeforeByAnybody: readonly RulePlan[] = [
  rule('prerouting-open-1', [underWay], mark(SKIP_MARK)),
  newInPlaceOfOld,
];

function saves(hook: 'forward' | 'input'): RulePlan[] {
  return [CONNSKIP_MARK, PROXY_MARK].map((saved, i) =>
    rule(`${hook}-${i + 1}`, [marked(saved)], { do: 'save-mark', mask: saved.mask }, 'later packets go the same way'),
  );
}

/** Traps 1 and 2. Neither cure asks for a socket: that test does not match the last ACK of a closed one. */
function hostTraffic(options: NodeModeOptions, afterNat: boolean): RulePlan {
  const matches: Match[] = afterNat
    ? [
        { on: 'protocol', protocol: 'tcp' },
        { on: 'destination-set', ...podsSet(options) },
      ]
    : [{ on: 'source-local' }];
  return rule('output-1', matches, mark(CONNSKIP_MARK), 'the node’s own connections, probes among them');
}

function natPrerouting(options: NodeModeOptions): RulePlan[] {
  const { captureDns, ztunnelIp, ztunnelIp6 } = options;
  const rules = [
    rule('nat-prerouting-1', [marked(OUTBOUND_MARK)], { do: 'no-nat' }, 'keeps the VIP: kube-proxy passes by'),
  ];
  if (!captureDns) return rules;
  const query: Match[] = [
    { on: 'source-set', ...podsSet(options) },
    { on: 'protocol', protocol: 'udp', destinationPort: 53 },
  ];
  const toProxy: Action = { do: 'dnat', ...both(ztunnelIp, ztunnelIp6), port: DNS_PORT };
  return [...rules, rule('nat-prerouting-2', query, toProxy, 'DNS of enrolled pods')];
}

function chain(
  prefix: string,
  table: ChainPlan['table'],
  hook: ChainPlan['hook'],
  place: ChainPlan['place'],
  rules: readonly RulePlan[],
): ChainPlan {
  return { name: `${prefix}-${hook.toUpperCase()}`, table, hook, place, rules };
}

function rule(id: string, matches: readonly Match[], action: Action, why?: string): RulePlan {
  return why === undefined ? { id, matches, action } : { id, matches, action, why };
}

function from(name: string): Match {
  return { on: 'in-interface', name };
}

function marked({ value, mask }: Mark): Match {
  return { on: 'mark', value, mask };
}

function connection({ value, mask }: Mark): Match {
  return { on: 'connmark', value, mask };
}

function mark({ value, mask }: Mark): Action {
  return { do: 'mark', value, mask };
}
