import type { Expression } from '../netlink/nftables/index.ts';
import { RedirectionError } from './error.ts';
import type { RedirectionPlan } from './plan.ts';
import { probeOnce } from './probe.ts';
import { type Feature, features, type KernelFeatures } from './probe-features.ts';
import { nftablesRuleset } from './render-nftables.ts';

const NFT_CT_ZONE = 17;

/** A plan asks for what this kernel does not have. Nothing was changed. `code` is `ERR_REDIRECTION_UNSUPPORTED`. */
export class UnsupportedPlanError extends RedirectionError {
  override readonly name = 'RedirectionError';
  /** In the order of {@link features}. */
  readonly missing: readonly Feature[];

  constructor(missing: readonly Feature[], message: string) {
    super({
      code: 'ERR_REDIRECTION_UNSUPPORTED',
      op: 'redirection.requireFeatures',
      message,
      step: missing.join(', '),
      cause: undefined,
    });
    this.missing = missing;
  }
}

/**
 * Refuses a plan that this kernel cannot carry out, before anything is changed.
 *
 * @param kernel - what there is; by default found out once in the life of the process ({@link probe})
 * @throws {UnsupportedPlanError} `ERR_REDIRECTION_UNSUPPORTED`, naming each feature, its kernel option, and what to use instead
 * @throws {SystemError} `EPERM` where it cannot be found out
 */
export function requireFeatures(plan: RedirectionPlan, kernel: KernelFeatures = probeOnce()): void {
  const missing: Feature[] = [];
  const texts: string[] = [];
  for (const feature of featuresOf(plan)) {
    const state = kernel[feature];
    if (state.available) continue;
    const { what, kernelOption, instead } = features[feature];
    missing.push(feature);
    texts.push(`${what} (${kernelOption}; the kernel says ${state.kernel}): ${instead}`);
  }
  if (missing.length === 0) return;
  throw new UnsupportedPlanError(
    missing,
    `the plan ${plan.name} needs what this kernel does not have: ${texts.join('; ')}`,
  );
}

/** What a plan needs of the kernel, in the order of {@link features}. Pure. */
export function featuresOf(plan: RedirectionPlan): Feature[] {
  const needed = new Set<Feature>();
  for (const link of plan.links) if (link.kind !== 'existing') needed.add(link.kind);
  for (const side of plan.sides) {
    for (const { family } of side.policyRules) needed.add(family === 4 ? 'policy-routing' : 'policy-routing-ipv6');
    const { tables, chains, sets, rules } = nftablesRuleset(plan, side.role);
    for (const { family } of tables) needed.add(family === 'ip6' ? 'nftables-ipv6' : 'nftables');
    for (const { base } of chains) if (base?.type === 'route') needed.add('route-chain');
    if (sets.length > 0) needed.add('set');
    for (const { table, expressions } of rules) {
      for (const expression of expressions) {
        const feature = featureOf(expression, table.family === 'ip6');
        if (feature !== undefined) needed.add(feature);
      }
    }
  }
  return (Object.keys(features) as Feature[]).filter((feature) => needed.has(feature));
}

function featureOf(expression: Expression, isIpv6: boolean): Feature | undefined {
  switch (expression.type) {
    case 'tproxy':
      return isIpv6 ? 'tproxy-ipv6' : 'tproxy';
    case 'ct':
      return expression.key === NFT_CT_ZONE ? 'ct-zone' : 'ct';
    case 'socket':
    case 'nat':
    case 'redirect':
    case 'masquerade':
    case 'fib':
      return expression.type;
    default:
      return undefined;
  }
}
