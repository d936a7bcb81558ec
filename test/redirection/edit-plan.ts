import type { RedirectionPlan, RulePlan } from '../../src/redirection/index.ts';

// A cure is taken out by editing the plan, which is a value: no option of the library turns one off.

/** The plan without one rule. */
export function withoutRule(plan: RedirectionPlan, id: string): RedirectionPlan {
  return editRules(plan, id, () => []);
}

/** The plan with one rule turned into another, or several. @throws where the plan has no such rule, which would prove nothing */
export function editRules(plan: RedirectionPlan, id: string, edit: (rule: RulePlan) => RulePlan[]): RedirectionPlan {
  let found = false;
  const sides = plan.sides.map((side) => ({
    ...side,
    chains: side.chains.map((chain) => ({
      ...chain,
      rules: chain.rules.flatMap((rule) => {
        if (rule.id !== id) return [rule];
        found = true;
        return edit(rule);
      }),
    })),
  }));
  if (!found) throw new Error(`the plan has no rule ${id}`);
  return { ...plan, sides };
}

/** The plan with another value for a kernel parameter, of its sides or of each pod. @throws where the plan does not set it */
export function withSysctl(plan: RedirectionPlan, role: string, name: string, value: string): RedirectionPlan {
  let found = false;
  const change = <T extends { name: string; value: string }>(sysctls: readonly T[]) =>
    sysctls.map((sysctl) => {
      if (sysctl.name !== name) return sysctl;
      found = true;
      return { ...sysctl, value };
    });
  const sides = plan.sides.map((side) => (side.role === role ? { ...side, sysctls: change(side.sysctls) } : side));
  const pods = { ...plan.pods, sysctls: change(plan.pods.sysctls) };
  if (!found) throw new Error(`the plan does not set ${name}`);
  return { ...plan, sides, pods };
}
