import { INPOD_MARK, INPOD_TPROXY_MARK } from './marks.ts';
import { DNS_PORT, INBOUND_HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT } from './node-mode-proxy.ts';
import type { Action, ChainPlan, Match, RulePlan } from './plan.ts';
import { type PodModeOptions, PROBE_IP, PROBE_IP6 } from './pod-mode-options.ts';

/** What a pod's connection tracking zone for DNS of the proxy is called by its number (facts section 7.1). */
export const DNS_ZONE = 1;

const tcp = { on: 'protocol', protocol: 'tcp' } as const;
const udp = { on: 'protocol', protocol: 'udp' } as const;
const ofProxy = { on: 'mark', ...INPOD_MARK } as const;
const notOfProxy: Match = { ...ofProxy, not: true };
// 127.0.0.1 alone, not the network around it (facts section 7.2).
const notLoopback: Match = { on: 'destination', ip: '127.0.0.1', ip6: '::1', not: true };
const byLo = { on: 'out-interface', name: 'lo' } as const;
const accept: Action = { do: 'accept' };

/** The chains of a pod, with the numbers of facts section 7.2 (or 7.5) in the rules' ids. */
export function podChains(options: PodModeOptions): ChainPlan[] {
  const { captureDns = true, inbound = 'redirect' } = options;
  const chains: ChainPlan[] = [
    preroutingChain('mangle', inbound === 'tproxy' ? tproxyRules(options) : [stampRule]),
    outputChain('mangle', [
      rule('mangle-output-1', [{ on: 'connmark', ...INPOD_TPROXY_MARK }], { do: 'restore-mark' }, 'the pod’s answer'),
    ]),
    outputChain('nat', natOutput(options, captureDns)),
  ];
  const nat = [...virtualInterfaceRules(options), ...(inbound === 'redirect' ? natPrerouting(options) : [])];
  if (nat.length > 0) chains.push(preroutingChain('nat', nat));
  if (captureDns && inbound === 'redirect') chains.push(...rawChains());
  return chains;
}

const stampRule = rule(
  'mangle-prerouting-1',
  [ofProxy],
  { do: 'connmark', ...INPOD_TPROXY_MARK },
  'from the proxy, with a client’s address: the answer is for it',
);

function natPrerouting(options: PodModeOptions): RulePlan[] {
  if (options.ingress) return [];
  const toProxy: Action = { do: 'redirect', port: INBOUND_PLAINTEXT_PORT };
  const plaintext: Match[] = [notLoopback, { ...tcp, destinationPort: INBOUND_HBONE_PORT, not: true }, notOfProxy];
  return [
    rule('nat-prerouting-2', [{ on: 'source', ...probe(options) }, tcp], accept, 'a probe of the node'),
    rule('nat-prerouting-3', plaintext, toProxy, 'plaintext for the pod'),
  ];
}

/** Twice: what is not redirected, because its connection is older than the rule, is not plaintext for the pod either. */
function virtualInterfaceRules({ virtualInterfaces = [] }: PodModeOptions): RulePlan[] {
  return virtualInterfaces.flatMap((name) => {
    const matches: Match[] = [{ on: 'in-interface', name }, tcp];
    const out: Action = { do: 'redirect', port: OUTBOUND_PORT };
    return [
      rule(`nat-prerouting-1-${name}`, matches, out, 'a virtual machine in the pod'),
      rule(`nat-prerouting-1-${name}-return`, matches, { do: 'return' }),
    ];
  });
}

function natOutput(options: PodModeOptions, captureDns: boolean): RulePlan[] {
  const toDnsProxy: Action = { do: 'redirect', port: DNS_PORT };
  const dns: Match[] = [{ ...udp, destinationPort: 53 }, notOfProxy];
  const tcpDns: Match[] = [{ ...tcp, destinationPort: 53 }, notOfProxy];
  // Before 1.24 the proxy's own queries were not told apart, and TCP queries not captured; here they are in both variants.
  const captured = [
    rule('nat-output-2', [{ ...byLo, not: true }, ...dns], toDnsProxy, 'DNS of the pod'),
    rule('nat-output-3', [notLoopback, ...tcpDns], toDnsProxy),
  ];
  const own: Match[] = [tcp, { on: 'mark', ...INPOD_TPROXY_MARK }];
  return [
    rule('nat-output-1', [{ on: 'destination', ...probe(options) }, tcp], accept, 'the answer to a probe'),
    ...(captureDns ? captured : []),
    rule('nat-output-4', own, accept, 'the pod’s answer, on its way to the proxy'),
    rule('nat-output-5', [notLoopback, byLo], accept, 'the pod to itself'),
    rule('nat-output-6', [notLoopback, tcp, notOfProxy], { do: 'redirect', port: OUTBOUND_PORT }, 'from the pod'),
  ];
}

/** The proxy's own queries, kept apart: else their ports could meet those of the pod's redirected ones. */
function rawChains(): ChainPlan[] {
  const zone: Action = { do: 'zone', zone: DNS_ZONE };
  return [
    outputChain('raw', [rule('raw-output-1', [{ ...udp, destinationPort: 53 }, ofProxy], zone, 'the proxy’s queries')]),
    preroutingChain('raw', [rule('raw-prerouting-2', [{ ...udp, sourcePort: 53 }, notOfProxy], zone, 'their answers')]),
  ];
}

/** Facts section 7.5: inbound by TPROXY, in the mangle table. */
function tproxyRules(options: PodModeOptions): RulePlan[] {
  const to = (port: number): Action => ({ do: 'tproxy', port, mark: INPOD_TPROXY_MARK, otherwise: 'drop' });
  const hbone: Match = { ...tcp, destinationPort: INBOUND_HBONE_PORT };
  const id = (number: number) => `mangle-prerouting-${number}`;
  if (options.ingress) return [stampRule];
  return [
    stampRule,
    rule(id(2), [{ on: 'source', ...probe(options) }, tcp], accept, 'a probe of the node'),
    rule(id(3), [notLoopback, tcp, { on: 'in-interface', name: 'lo' }], accept, 'the pod to itself'),
    ...(options.virtualInterfaces ?? []).map((name) =>
      rule(`${id(3)}-${name}`, [tcp, { on: 'in-interface', name }], accept, 'a virtual machine in the pod: see nat'),
    ),
    rule(id(4), [hbone, notOfProxy], to(INBOUND_HBONE_PORT), 'HBONE for the pod'),
    rule(id(5), [tcp, { on: 'established' }], accept, 'goes by its socket'),
    rule(id(6), [notLoopback, tcp, notOfProxy], to(INBOUND_PLAINTEXT_PORT), 'plaintext for the pod'),
  ];
}

function probe({ probeIp = PROBE_IP, probeIp6 = PROBE_IP6 }: PodModeOptions): { ip: string; ip6: string } {
  return { ip: probeIp, ip6: probeIp6 };
}

function preroutingChain(table: ChainPlan['table'], rules: readonly RulePlan[]): ChainPlan {
  return { name: 'ISTIO_PRERT', table, hook: 'prerouting', place: 'beside-others', rules };
}

function outputChain(table: ChainPlan['table'], rules: readonly RulePlan[]): ChainPlan {
  return { name: 'ISTIO_OUTPUT', table, hook: 'output', place: 'beside-others', rules };
}

function rule(id: string, matches: readonly Match[], action: Action, why?: string): RulePlan {
  return why === undefined ? { id, matches, action } : { id, matches, action, why };
}
