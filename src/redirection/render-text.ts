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
    for (const rule of side.policyRules)
      lines.push(`  ${rule.family === 4 ? 'ip' : 'ip6'} rule${rule.family === 4 ? ' ' : ''} ${policyRuleText(rule)}`);
    for (const route of side.routes) {
      lines.push(`  route${route.destination.includes(':') ? '6' : ' '}   ${routeText(route)}`);
    }
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
  const { list, set, set6 } = plan.pods;
  const names = [set, set6].filter((name) => name !== undefined);
  if (names.length === 0) return [];
  const lines = [`  set      ${names.join(', ')}: ${list.length} ${list.length === 1 ? 'pod' : 'pods'}`];
  for (const pod of list.slice(0, SHOWN_PODS)) {
    const comment = pod.comment === undefined ? '' : ` (${pod.comment})`;
    const behind = pod.veth === undefined ? '' : ` behind ${pod.veth}`;
    const route = podRoute(plan, pod);
    lines.push(`    ${pod.ip}${comment}${behind}${route === undefined ? '' : `; route ${routeText(route)}`}`);
  }
  if (list.length > SHOWN_PODS) lines.push(`    and ${list.length - SHOWN_PODS} more`);
  return lines;
}

function linkText(link: LinkPlan): string {
  if (link.kind === 'veth') return `${link.name} (veth) to ${link.peer.name} in ${link.peer.role}`;
  if (link.kind === 'geneve') return `${link.name} (geneve ${link.id}, port ${link.port}) to ${link.remote}`;
  return `${link.name} (is there) up`;
}

/** As `ip rule` writes it. All that tells one rule from another is in it, so rules with the same text are the same. */
export function policyRuleText(rule: PolicyRule): string {
  const { priority, invert, source, destination, tos, fwmark = 0, fwmask, iif, oif, uids, ipProtocol } = rule;
  const { sourcePorts, destinationPorts, suppressPrefixLength, unread } = rule;
  const parts = [`${priority}:`];
  if (invert) parts.push('not');
  parts.push(`from ${source === undefined ? 'all' : destinationText(source)}`);
  if (destination !== undefined) parts.push(`to ${destinationText(destination)}`);
  if (tos) parts.push(`tos 0x${tos.toString(16)}`);
  if (fwmark !== 0 || fwmask) parts.push(`fwmark ${hex(fwmark)}/${hex(fwmask ?? 0xffffffff)}`);
  if (iif !== undefined) parts.push(`iif ${iif}`);
  if (oif !== undefined) parts.push(`oif ${oif}`);
  if (uids !== undefined) parts.push(`uidrange ${uids.start}-${uids.end}`);
  if (ipProtocol !== undefined) parts.push(`ipproto ${ipProtocol}`);
  if (sourcePorts !== undefined) parts.push(`sport ${sourcePorts.start}-${sourcePorts.end}`);
  if (destinationPorts !== undefined) parts.push(`dport ${destinationPorts.start}-${destinationPorts.end}`);
  if (unread !== undefined) parts.push(`and FRA_ ${unread.join(', ')}`);
  parts.push(policyActionText(rule));
  if (suppressPrefixLength !== undefined) parts.push(`suppress_prefixlength ${suppressPrefixLength}`);
  return parts.join(' ');
}

function policyActionText({ action, goto, table }: PolicyRule): string {
  if (goto !== undefined) return `goto ${goto}`;
  return action === undefined || action === 'lookup' ? `lookup ${table}` : String(action);
}

/** As `ip route` writes it, the table in front. */
export function routeText(route: Route): string {
  const parts = [`table ${route.table ?? 'main'}`];
  if (route.type !== undefined && route.type !== 'unicast') parts.push(String(route.type));
  parts.push(destinationText(route.destination));
  if (route.gateway !== undefined) parts.push(`via ${route.gateway}`);
  if (route.device !== undefined) parts.push(`dev ${route.device}`);
  if (route.onlink) parts.push('onlink');
  if (route.source !== undefined) parts.push(`src ${route.source}`);
  return parts.join(' ');
}

function destinationText(destination: string): string {
  if (destination === '0.0.0.0/0' || destination === '::/0') return 'default';
  return destination.replace(destination.includes(':') ? /\/128$/ : /\/32$/, '');
}

function matchText(match: Match): string {
  const not = 'not' in match && match.not ? 'not ' : '';
  switch (match.on) {
    case 'in-interface':
      return `${not}in ${match.name}`;
    case 'out-interface':
      return `${not}out ${match.name}`;
    case 'mark':
      return `${not}mark ${markText(match)}`;
    case 'connmark':
      return `${not}connmark ${markText(match)}`;
    case 'protocol':
      if (match.destinationPort !== undefined) return `${match.protocol} ${not}port ${match.destinationPort}`;
      if (match.sourcePort !== undefined) return `${match.protocol} ${not}from port ${match.sourcePort}`;
      return match.protocol;
    case 'source':
      return `${not}from ${bothText(match.ip, match.ip6)}`;
    case 'destination':
      return `${not}to ${bothText(match.ip, match.ip6)}`;
    case 'source-set':
      return `from ${bothText(match.set, match.set6)}`;
    case 'destination-set':
      return `to ${bothText(match.set, match.set6)}`;
    case 'original-source-set':
      return `opened by ${bothText(match.set, match.set6)}`;
    case 'reply-source-set':
      return `answered by ${bothText(match.set, match.set6)}`;
    case 'tcp-syn':
      return 'tcp syn';
    case 'source-local':
      return 'from this node';
    case 'own-socket':
      return 'from a socket of this node';
    case 'established':
      return 'under way';
  }
}

function actionText(action: Action): string {
  switch (action.do) {
    case 'mark':
      return `set mark ${markText(action)}`;
    case 'connmark':
      return `set connmark ${markText(action)}`;
    case 'save-mark':
      return `save mark ${hex(action.mask)} on the connection`;
    case 'restore-mark':
      return 'take the mark from the connection';
    case 'zone':
      return `track in zone ${action.zone}`;
    case 'no-nat':
      return 'keep addresses';
    case 'redirect':
      return `redirect to port ${action.port}`;
    case 'dnat':
      return `to ${bothText(action.ip, action.ip6)}:${action.port}`;
    case 'snat':
      return `from ${bothText(action.ip, action.ip6)} instead`;
    case 'tproxy': {
      const to = action.ip === undefined ? `port ${action.port}` : `${bothText(action.ip, action.ip6)}:${action.port}`;
      return `tproxy to ${to}, set mark ${markText(action.mark)}, else ${action.otherwise}`;
    }
    default:
      return action.do;
  }
}

/** What is said of IPv4, and behind a stroke of IPv6. */
function bothText(text: string, text6: string | undefined): string {
  return text6 === undefined ? text : `${text}|${text6}`;
}

function markText({ value, mask }: Mark): string {
  return `${hex(value)}/${hex(mask)}`;
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(3, '0')}`;
}
