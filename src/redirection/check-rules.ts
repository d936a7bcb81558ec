import { invalid } from './error.ts';
import { familiesOf, isRuleIn, type RedirectionPlan, type Role, type RulePlan, type SetPlan, sideOf } from './plan.ts';

/**
 * What every rendering asks of a side's rules: ids and chains that are there once, sets that exist, values within their masks.
 *
 * @param op - the rendering, for the error
 * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID`, naming the rule
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
  for (const condition of rule.matches) {
    if ('value' in condition) checkMark(op, rule, condition.value, condition.mask);
    if (condition.on !== 'source-set' && condition.on !== 'destination-set') continue;
    for (const name of [condition.set, condition.set6]) {
      if (name === undefined || sets.some((set) => set.name === name)) continue;
      throw invalid(op, `${rule.id}.matches`, `there is no set ${name}`);
    }
  }
  const { action } = rule;
  if (action.do === 'mark' || action.do === 'connmark') checkMark(op, rule, action.value, action.mask);
  if (action.do === 'tproxy') checkMark(op, rule, action.mark.value, action.mark.mask);
  if (!familiesOf(plan).some((family) => isRuleIn(family, rule, sets))) {
    throw invalid(op, rule.id, 'none of the plan’s families has all of its addresses and sets');
  }
}

function checkMark(op: string, rule: RulePlan, value: number, mask: number): void {
  const areNumbers = [value, mask].every((bits) => Number.isInteger(bits) && bits >= 0 && bits <= 0xffff_ffff);
  if (areNumbers && (value & ~mask) === 0) return;
  throw invalid(op, rule.id, `a mark of 0x${value.toString(16)} does not fit a mask of 0x${mask.toString(16)}`);
}
