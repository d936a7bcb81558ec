import type { Rule as PolicyRule, Route } from '../netlink/route/index.ts';
import type { Action, LinkPlan, Mark, Match, RedirectionPlan, RulePlan, SidePlan } from './plan.ts';
import { podRoute } from './plan.ts';

/** How many pods {@link renderText} shows by name. */
const SHOWN_PODS = 20;

/** The whole plan for a person: one block per side, one line per item, rules in the order in which they run. */
export function renderText(plan: RedirectionPlan): string {
  const lines: string[] = [];
  for (const side of plan.sides) {
    lines.push(`${side.role}:`);
    for (const link of plan.links) if (link.role === side.role) lines.push(`  link     ${linkText(link)}`);
    for (const { ip, prefixLength, device } of side.addresses) {
      lines.push(`  address  ${ip}/${prefixLength} on ${device}`);
    }
    for (const { name, value } of side.sysctls) lines.push(`  sysctl   ${name} = ${value}`);
    for (const rule of side.policyRules) lines.push(`  ip rule  ${policyRuleText(rule)}`);
    for (const route of side.routes) lines.push(`  route    ${routeText(route)}`);
    if (plan.pods.role === side.role) lines.push(...podLines(plan));
    lines.push(...chainLines(side));
  }
  return `${lines.join('\n')}\n`;
}

/** A rule in one line, without its id: `in istioin: mark 0x200/0x200`. */
export function ruleText(rule: RulePlan): string {
  const conditions = rule.matches.map(matchText).join(', ');
  return `${conditions}${conditions === '' ? '' : ': '}${actionText(rule.action)}`;
}

function chainLines(side: SidePlan): string[] {
  const width = Math.max(0, ...side.chains.flatMap(({ rules }) => rules.map(({ id }) => id.length)));
  const lines: string[] = [];
  for (const { table, name, hook, place, rules } of side.chains) {
    lines.push(`  ${table} ${name} (${hook}, ${place.replaceAll('-', ' ')})`);
    for (const rule of rules) {
      const text = `    ${rule.id.padEnd(width)}  ${ruleText(rule)}`;
      lines.push(rule.why === undefined ? text : `${text.padEnd(86)}  # ${rule.why}`);
    }
  }
  return lines;
}

function podLines(plan: RedirectionPlan): string[] {
  const { list, set } = plan.pods;
  const lines = [`  set      ${set}: ${list.length} ${list.length === 1 ? 'pod' : 'pods'}`];
  for (const pod of list.slice(0, SHOWN_PODS)) {
    const comment = pod.comment === undefined ? '' : ` (${pod.comment})`;
    lines.push(`    ${pod.ip}${comment} behind ${pod.veth}; route ${routeText(podRoute(plan, pod))}`);
  }
  if (list.length > SHOWN_PODS) lines.push(`    and ${list.length - SHOWN_PODS} more`);
  return lines;
}

function linkText(link: LinkPlan): string {
  if (link.kind === 'veth') return `${link.name} (veth) to ${link.peer.name} in ${link.peer.role}`;
  if (link.kind === 'geneve') return `${link.name} (geneve ${link.id}, port ${link.port}) to ${link.remote}`;
  return `${link.name} (is there) up`;
}

/** As `ip rule` writes it. */
export function policyRuleText(rule: PolicyRule): string {
  const selector = rule.fwmark === undefined ? '' : ` fwmark ${hex(rule.fwmark)}/${hex(rule.fwmask ?? 0xffffffff)}`;
  const action = rule.goto === undefined ? `lookup ${rule.table}` : `goto ${rule.goto}`;
  return `${rule.priority}: from all${selector} ${action}`;
}

/** As `ip route` writes it, the table in front. */
export function routeText(route: Route): string {
  const parts = [`table ${route.table ?? 'main'}`];
  if (route.type !== undefined && route.type !== 'unicast') parts.push(String(route.type));
  parts.push(route.destination === '0.0.0.0/0' ? 'default' : route.destination.replace(/\/32$/, ''));
  if (route.gateway !== undefined) parts.push(`via ${route.gateway}`);
  if (route.device !== undefined) parts.push(`dev ${route.device}`);
  if (route.onlink) parts.push('onlink');
  if (route.source !== undefined) parts.push(`src ${route.source}`);
  return parts.join(' ');
}

function matchText(match: Match): string {
  const not = 'not' in match && match.not ? 'not ' : '';
  switch (match.on) {
    case 'in-interface':
      return `${not}in ${match.name}`;
    case 'mark':
      return `mark ${markText(match)}`;
    case 'connmark':
      return `connmark ${markText(match)}`;
    case 'protocol':
      return match.destinationPort === undefined ? match.protocol : `${match.protocol} port ${match.destinationPort}`;
    case 'source':
      return `${not}from ${match.ip}`;
    case 'destination':
      return `${not}to ${match.ip}`;
    case 'source-set':
      return `from ${match.set}`;
    case 'destination-set':
      return `to ${match.set}`;
    case 'source-local':
      return 'from this node';
  }
}

function actionText(action: Action): string {
  switch (action.do) {
    case 'mark':
      return `set mark ${markText(action)}`;
    case 'save-mark':
      return `save mark ${hex(action.mask)} on the connection`;
    case 'no-nat':
      return 'keep addresses';
    case 'dnat':
      return `to ${action.ip}:${action.port}`;
    case 'tproxy':
      return `tproxy to ${action.ip}:${action.port}, set mark ${markText(action.mark)}, else ${action.otherwise}`;
    default:
      return action.do;
  }
}

function markText({ value, mask }: Mark): string {
  return `${hex(value)}/${hex(mask)}`;
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(3, '0')}`;
}
