import { formatSocketAddress } from '../ip/index.ts';
import { conntrackStatusNames } from '../netlink/conntrack/index.ts';
import { isLegacy } from '../netlink/nftables/legacy-table.ts';
import type { ListedRoute, ListedRule } from '../netlink/route/index.ts';
import type { Effect } from './evaluate-rule.ts';
import type { Ending, Explanation, RuleStep, Step } from './explanation.ts';
import { NF_IP_PRI_CONNTRACK } from './kernel-numbers.ts';

/** Tables of `<linux/rtnetlink.h>` that have names everywhere. */
const TABLES: Readonly<Record<number, string>> = { 253: 'default', 254: 'main', 255: 'local' };
/** Rules of a fast path that a line names before it only counts. */
const SHOWN = 8;

/** An explanation for people: the packet, one line a step in aligned columns, the end. With a final newline. */
export function formatExplanation(explanation: Explanation): string {
  const { packet, ending, fastPath, caveats } = explanation;
  const mark = packet.mark === undefined ? '' : `, mark ${hex(packet.mark)}`;
  const origin = packet.device === undefined ? 'made here' : `in by ${packet.device}`;
  const from = endpoint(packet.source, packet.sourcePort);
  const head = `${packet.protocol} ${from} → ${endpoint(packet.destination, packet.destinationPort)}, ${origin}${mark}`;
  const lines = aligned(explanation.steps.map(columns));
  const tail = [`→ ${endingText(ending, explanation)}${percent(explanation.probability)}`];
  for (const other of explanation.otherwise ?? []) tail.push(...otherwiseLines(explanation, other));
  if (fastPath !== undefined) {
    const { spared } = fastPath;
    const more = spared.length > SHOWN ? ` and ${spared.length - SHOWN} more` : '';
    const what = spared.length === 0 ? 'nothing' : `${spared.slice(0, SHOWN).join(', ')}${more}`;
    tail.push(
      `fast path: ${count(fastPath.rules, 'rule')} where a first packet meets ${fastPath.firstRules}; spared: ${what}`,
      `           a first packet would be ${endingText(fastPath.firstEnding)}`,
    );
  }
  return `${[head, ...lines, ...tail, ...caveats.map((caveat) => `caveat: ${caveat}`)].map(visible).join('\n')}\n`;
}

/** Another way, from the step on that chance has made another. */
function otherwiseLines({ steps }: Explanation, other: Explanation): string[] {
  const same = steps.findIndex((step, i) => JSON.stringify(step) !== JSON.stringify(other.steps[i]));
  const rest = other.steps.slice(same < 0 ? steps.length : same);
  return [
    'or else:',
    ...aligned(rest.map(columns)),
    `→ ${endingText(other.ending, other)}${percent(other.probability)}`,
  ];
}

function percent(probability: number | undefined): string {
  return probability === undefined ? '' : ` (${Math.round(probability * 1000) / 10} %)`;
}

/** Place, what decides, what it does. */
function columns(step: Step): [string, string, string] {
  switch (step.kind) {
    case 'rule': {
      const { table, chain, comment, handle } = step;
      const numbered = `${isLegacy(table) ? 'entry' : 'handle'} ${handle}`;
      const name = `${table.family} ${table.name} ${chain} ${comment ?? numbered}`;
      return [`${step.hook} ${step.priority}`, name, `${step.text}${counted(step)}${doneBy(step)}`];
    }
    case 'connection': {
      const place = `${step.hook} ${NF_IP_PRI_CONNTRACK}`;
      const { entry, mark, zone } = step;
      const zoned = zone === 0 ? '' : `, zone ${zone}`;
      if (entry === undefined) {
        const marked = step.state === 'established' ? `, mark ${mark === undefined ? 'unknown' : hex(mark)}` : '';
        return [place, 'conntrack', `${step.state}, not in the table${marked}${zoned}`];
      }
      const tcp = entry.tcpState === undefined ? '' : `, ${entry.tcpState}`;
      const status = conntrackStatusNames(entry.status).join(' ');
      return [place, 'conntrack', `${step.state} (${step.direction})${tcp}, mark ${hex(mark)}${zoned} [${status}]`];
    }
    case 'connection-nat':
      return [
        step.hook,
        'conntrack',
        `${step.part} becomes ${endpoint(step.ip, step.port)}, as its first packet settled`,
      ];
    case 'policy':
      return [step.hook, `${step.table.family} ${step.table.name} ${step.chain}`, 'policy drop'];
    case 'route':
      return [`route${step.why === 'again' ? ' again' : ''}`, policyRuleText(step.rule), routeText(step.route)];
    case 'loopback':
      return ['loopback', 'lo', 'comes back in, with its mark and its connection'];
  }
}

function counted({ counter }: RuleStep): string {
  return counter === undefined ? '' : ` (${counter.packets})`;
}

function doneBy({ effects, note }: RuleStep): string {
  const parts = [...effects.map(effectText), ...(note === undefined ? [] : [note])];
  return parts.length === 0 ? '' : `: ${parts.join(', ')}`;
}

function effectText(effect: Effect): string {
  switch (effect.kind) {
    case 'mark':
    case 'connmark':
      return `${effect.kind === 'mark' ? 'mark' : 'connection mark'} ${hex(effect.before)} → ${hex(effect.after)}`;
    case 'chance':
      return `${effect.by} decides: ${effect.taken}${percent(effect.probability)}`;
    case 'zone':
      return `conntrack zone ${effect.zone}`;
    case 'untracked':
      return 'not tracked';
    case 'reject':
      return 'refused with an answer';
    case 'tproxy':
      return `to the listener at ${endpoint(effect.ip ?? 'the device’s address', effect.port)}`;
    case 'dnat':
    case 'redirect':
      return effect.keeps ? 'destination kept for good' : `destination becomes ${endpoint(effect.ip, effect.port)}`;
    case 'snat':
    case 'masquerade':
      return effect.keeps ? 'source kept for good' : `source becomes ${effect.ip}`;
  }
}

function policyRuleText({ priority, fwmark, fwmask, iif, source, destination, table }: ListedRule): string {
  const parts = [`rule ${priority}`];
  if (source !== undefined) parts.push(`from ${source}`);
  if (destination !== undefined) parts.push(`to ${destination}`);
  if (fwmark !== undefined) parts.push(`fwmark ${hex(fwmark)}/${hex(fwmask ?? 0xffff_ffff)}`);
  if (iif !== undefined) parts.push(`iif ${iif}`);
  parts.push(`lookup ${table === undefined ? '?' : (TABLES[table] ?? table)}`);
  return parts.join(' ');
}

function routeText({ type, destination, gateway, device, nextHops }: ListedRoute): string {
  const parts = [type === 'unicast' ? destination : `${type} ${destination}`];
  if (gateway !== undefined) parts.push(`via ${gateway}`);
  if (device !== undefined) parts.push(`dev ${device}`);
  if (nextHops !== undefined) parts.push(`over one of ${count(nextHops.length, 'next hop')}`);
  return parts.join(' ');
}

function endingText(ending: Ending, last?: Explanation): string {
  switch (ending.kind) {
    case 'forwarded':
    case 'sent': {
      const by = ending.device === undefined ? 'one of several devices' : ending.device;
      const via = ending.gateway === undefined ? '' : ` via ${ending.gateway}`;
      if (last === undefined) return `${ending.kind} by ${by}${via}`;
      const from = endpoint(last.source, last.sourcePort);
      const mark = last.mark === undefined || last.mark === 0 ? '' : `, mark ${hex(last.mark)}`;
      return `${ending.kind} by ${by}${via} as ${from} → ${endpoint(last.destination, last.destinationPort)}${mark}`;
    }
    case 'bridged':
      return `passed on by the bridge ${ending.device}`;
    case 'delivered': {
      const where = endpoint(ending.ip ?? 'the device’s address', ending.port);
      if (ending.tproxy) return `delivered to the listener at ${where}, which must be transparent`;
      return `delivered to ${where}${ending.listening === false ? ', where no socket listens' : ''}`;
    }
    case 'dropped':
      return `dropped: ${ending.reason}`;
    case 'unknown':
      return `cannot tell: ${ending.reason}`;
  }
}

function endpoint(ip: string, port: number | undefined): string {
  return port === undefined ? ip : formatSocketAddress(ip, port);
}

function aligned(rows: readonly (readonly [string, string, string])[]): string[] {
  const width = (column: 0 | 1) => Math.max(0, ...rows.map((row) => row[column].length));
  const [first, second] = [width(0), width(1)];
  return rows.map(([place, who, what]) => `  ${place.padEnd(first)}  ${who.padEnd(second)}  ${what}`);
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}

function hex(value: number | undefined): string {
  return value === undefined ? 'unknown' : `0x${value.toString(16)}`;
}

/** Comments are somebody's text, and this is somebody's terminal. */
export function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (char) => `\\u{${char.codePointAt(0)!.toString(16)}}`);
}
