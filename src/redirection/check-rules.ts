import { parseIp } from '../ip/index.ts';
import { checkDevice, checkPort } from './check-options.ts';
import { invalid } from './error.ts';
import {
  familiesOf,
  isRuleIn,
  type Match,
  type RedirectionPlan,
  type Role,
  type RulePlan,
  type SetPlan,
  sideOf,
} from './plan.ts';

/**
 * What every rendering asks of a side's rules: ids and chains that are there once, sets that exist, values within their masks.
 *
 * @param op - the rendering, for the error
 * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` or `ERR_IP_ADDRESS`, naming the rule and what of it is wrong
 */
export function checkRules(op: string, plan: RedirectionPlan, role: Role): void {
  const side = sideOf(plan, role);
  if (side === undefined) return;
  const ids = new Set<string>();
  const chains = new Set<string>();
  for (const { table, name, rules } of side.chains) {
    const chain = `${table} ${name}`;
    if (chains.has(chain)) throw invalid(op, `${role}.chains`, `${chain} is there twice`);
    chains.add(chain);
    for (const rule of rules) {
      if (ids.has(rule.id)) throw invalid(op, `${role}.chains`, `the id ${rule.id} is there twice`);
      ids.add(rule.id);
      checkRule(op, rule, plan, side.sets);
    }
  }
}

function checkRule(op: string, rule: RulePlan, plan: RedirectionPlan, sets: readonly SetPlan[]): void {
  for (const [i, condition] of rule.matches.entries()) checkMatch(op, rule, condition, `matches[${i}]`, sets);
  const { action } = rule;
  if (action.do === 'mark' || action.do === 'connmark') checkMark(op, rule, action.value, action.mask);
  if (action.do === 'tproxy') checkMark(op, rule, action.mark.value, action.mark.mask);
  if ('port' in action) checkPort(op, action.port, `${rule.id}.action.port`);
  if ('ip' in action) checkAddresses(rule, action, 'action');
  if (action.do === 'zone' && !(Number.isInteger(action.zone) && action.zone >= 0 && action.zone <= 0xffff)) {
    throw invalid(op, `${rule.id}.action.zone`, `${action.zone} is not 0 to 65535`);
  }
  if (!familiesOf(plan).some((family) => isRuleIn(family, rule, sets))) {
    throw invalid(op, rule.id, 'none of the plan’s families has all of its addresses and sets');
  }
}

function checkMatch(op: string, rule: RulePlan, condition: Match, at: string, sets: readonly SetPlan[]): void {
  const field = `${rule.id}.${at}`;
  switch (condition.on) {
    case 'in-interface':
    case 'out-interface':
      return checkDevice(op, condition.name, `${field}.name`);
    case 'mark':
    case 'connmark':
      return checkMark(op, rule, condition.value, condition.mask);
    case 'source':
    case 'destination':
      return checkAddresses(rule, condition, at);
    case 'protocol':
      for (const name of ['sourcePort', 'destinationPort'] as const) {
        const port = condition[name];
        if (port !== undefined) checkPort(op, port, `${field}.${name}`);
      }
      return;
    case 'source-set':
    case 'destination-set':
    case 'original-source-set':
    case 'reply-source-set':
      for (const name of [condition.set, condition.set6]) {
        if (name === undefined || sets.some((set) => set.name === name)) continue;
        throw invalid(op, `${rule.id}.matches`, `there is no set ${name}`);
      }
  }
}

function checkAddresses(
  rule: RulePlan,
  { ip, ip6 }: { readonly ip?: string; readonly ip6?: string },
  at: string,
): void {
  if (ip !== undefined) parseIp(ip, `${rule.id}.${at}.ip`);
  if (ip6 !== undefined) parseIp(ip6, `${rule.id}.${at}.ip6`);
}

function checkMark(op: string, rule: RulePlan, value: number, mask: number): void {
  const areNumbers = [value, mask].every((bits) => Number.isInteger(bits) && bits >= 0 && bits <= 0xffff_ffff);
  if (areNumbers && (value & ~mask) === 0) return;
  throw invalid(op, rule.id, `a mark of 0x${value.toString(16)} does not fit a mask of 0x${mask.toString(16)}`);
}
