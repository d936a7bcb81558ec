import { ORG_SRC_RET_MARK, TPROXY_MARK } from './marks.ts';
import { both, type NodeModeOptions } from './node-mode-options.ts';
import type { ChainPlan, Match, RulePlan } from './plan.ts';

/** Listeners of the proxy, facts section 2.1: they must be transparent, and not be bound to the proxy's own address (trap 7). */
export const OUTBOUND_PORT = 15001;
export const INBOUND_PLAINTEXT_PORT = 15006;
export const INBOUND_HBONE_PORT = 15008;
export const DNS_PORT = 15053;

/** The chain of the proxy's namespace (facts section 7.6, node mode section 3). */
export function proxyChains(options: NodeModeOptions): ChainPlan[] {
  const tcp: Match = { on: 'protocol', protocol: 'tcp' };
  const hbone: Match = { ...tcp, destinationPort: INBOUND_HBONE_PORT };
  const pistioin: Match = { on: 'in-interface', name: 'pistioin' };
  const pistioout: Match = { on: 'in-interface', name: 'pistioout' };
  const eth0: Match = { on: 'in-interface', name: options.ztunnelDevice ?? 'eth0' };
  const elsewhere: Match = { on: 'destination', ...both(options.ztunnelIp, options.ztunnelIp6), not: true };
  return [
    {
      name: 'PREROUTING',
      table: 'mangle',
      hook: 'prerouting',
      place: 'before-others',
      rules: [
        tproxy(options, 'ztunnel-1', [pistioin, hbone], INBOUND_HBONE_PORT, 'HBONE for an enrolled pod'),
        tproxy(options, 'ztunnel-2', [pistioout, tcp], OUTBOUND_PORT, 'from an enrolled pod'),
        tproxy(options, 'ztunnel-3', [pistioin, tcp], INBOUND_PLAINTEXT_PORT, 'plaintext for an enrolled pod'),
        {
          id: 'ztunnel-4',
          matches: [eth0, tcp, elsewhere],
          action: { do: 'mark', ...ORG_SRC_RET_MARK },
          why: 'a later packet, or an answer to a connection with a pod’s address',
        },
      ],
    },
  ];
}

/** With a drop behind it: a proxy that is gone must not turn HBONE into plaintext (node mode, change 2; trap 13). */
function tproxy(
  { ztunnelIp6 }: NodeModeOptions,
  id: string,
  matches: readonly Match[],
  port: number,
  why: string,
): RulePlan {
  const to = { ...both('127.0.0.1', ztunnelIp6 === undefined ? undefined : '::1'), port };
  return { id, matches, action: { do: 'tproxy', ...to, mark: TPROXY_MARK, otherwise: 'drop' }, why };
}
