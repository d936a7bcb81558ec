import { type CompileOptions, checkCompileOptions, checkLimit, compilePolicy } from './compile.ts';
import type { CompiledPolicy } from './compiled-policy.ts';
import { InvalidPolicyError } from './errors.ts';
import type { Policy } from './policy.ts';

/** What the set needs to know of the workload that a connection goes to. A workload of `ambient-kit/discovery` is one. */
export interface PolicyTarget {
  readonly namespace: string;
  /** Keys (`namespace/name`) of further policies; the only way to one of scope WorkloadSelector. */
  readonly authorizationPolicies?: readonly string[] | undefined;
}

export interface PolicySetOptions extends CompileOptions {
  /** The most policies the set may hold. Default 100,000. */
  readonly maxPolicies?: number | undefined;
}

/** Default of {@link PolicySetOptions.maxPolicies}. */
export const DEFAULT_MAX_POLICIES = 100_000;

/** The policies that apply to one workload, and the keys it lists that nobody has sent yet. */
export interface Candidates {
  readonly policies: readonly CompiledPolicy[];
  readonly unknownKeys: readonly string[];
}

/**
 * The policies in force, indexed so that a decision visits only those that apply. Plain memory, one owner, nothing to
 * close. Every change is all or nothing: a policy that is refused leaves the set as it was.
 */
export class PolicySet {
  readonly #options: PolicySetOptions;
  readonly #maxPolicies: number;
  #byKey = new Map<string, CompiledPolicy>();
  #global = new Map<string, CompiledPolicy>();
  #byNamespace = new Map<string, Map<string, CompiledPolicy>>();
  #version = 0;

  /** @throws {@link InvalidPolicyError} ERR_RBAC_OPTION */
  constructor(options: PolicySetOptions = {}) {
    checkCompileOptions(options);
    this.#options = { ...options };
    this.#maxPolicies = checkLimit('maxPolicies', options.maxPolicies, DEFAULT_MAX_POLICIES);
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** Grows with every change: when it did, connections that are open want to be judged again (facts section 3.6). */
  get version(): number {
    return this.#version;
  }

  get(key: string): CompiledPolicy | undefined {
    return this.#byKey.get(key);
  }

  /** The compiled policies, in the order they came; for logging their warnings, or a dump. */
  policies(): IterableIterator<CompiledPolicy> {
    return this.#byKey.values();
  }

  /**
   * Puts these policies in the place of all others.
   * @throws {@link InvalidPolicyError} with a field from `policies[0]` on: ERR_RBAC_POLICY, ERR_RBAC_LIMIT, or
   *   ERR_RBAC_DUPLICATE when two have one key
   */
  replace(policies: Iterable<Policy>): void {
    const compiled = new Map<string, CompiledPolicy>();
    let index = 0;
    for (const policy of policies) {
      const one = this.#compileAt(policy, `policies[${index++}]`);
      if (compiled.has(one.key)) {
        throw new InvalidPolicyError({
          code: 'ERR_RBAC_DUPLICATE',
          op: 'rbac.replace',
          field: `policies[${index - 1}]`,
          message: `a policy with the key ${JSON.stringify(one.key)} came before it`,
        });
      }
      compiled.set(one.key, one);
      if (compiled.size > this.#maxPolicies) throw this.#tooMany('rbac.replace');
    }
    this.#byKey = new Map();
    this.#global = new Map();
    this.#byNamespace = new Map();
    for (const one of compiled.values()) this.#index(one);
    this.#version++;
  }

  /**
   * Adds a policy, or puts it in the place of the one with its key.
   * @returns the compiled policy, whose `warnings` are worth a log line
   * @throws {@link InvalidPolicyError} ERR_RBAC_POLICY or ERR_RBAC_LIMIT
   */
  upsert(policy: Policy): CompiledPolicy {
    const compiled = compilePolicy(policy, this.#options);
    const before = this.#byKey.get(compiled.key);
    if (before === undefined && this.#byKey.size >= this.#maxPolicies) throw this.#tooMany('rbac.upsert');
    if (before !== undefined && before.policy.scope !== compiled.policy.scope) this.#unindex(before);
    this.#index(compiled);
    this.#version++;
    return compiled;
  }

  /** @returns whether there was a policy with this key */
  remove(key: string): boolean {
    const before = this.#byKey.get(key);
    if (before === undefined) return false;
    this.#unindex(before);
    this.#version++;
    return true;
  }

  /** The policies of the workload's namespace, the global ones, then those it lists (facts section 3.2); none of them twice. */
  candidates(target: PolicyTarget): Candidates {
    const policies: CompiledPolicy[] = [];
    const unknownKeys: string[] = [];
    const ofNamespace = this.#byNamespace.get(target.namespace);
    if (ofNamespace !== undefined) for (const policy of ofNamespace.values()) policies.push(policy);
    for (const policy of this.#global.values()) policies.push(policy);
    const indexed = policies.length;
    for (const key of target.authorizationPolicies ?? []) {
      const policy = this.#byKey.get(key);
      if (policy === undefined) {
        if (!unknownKeys.includes(key)) unknownKeys.push(key);
      } else if (!ofNamespace?.has(key) && !this.#global.has(key) && policies.indexOf(policy, indexed) < 0) {
        policies.push(policy);
      }
    }
    return { policies, unknownKeys };
  }

  #index(compiled: CompiledPolicy): void {
    const { scope, namespace } = compiled.policy;
    this.#byKey.set(compiled.key, compiled);
    if (scope === 'Global') this.#global.set(compiled.key, compiled);
    if (scope !== 'Namespace') return;
    const ofNamespace = this.#byNamespace.get(namespace);
    if (ofNamespace === undefined) this.#byNamespace.set(namespace, new Map([[compiled.key, compiled]]));
    else ofNamespace.set(compiled.key, compiled);
  }

  #unindex(compiled: CompiledPolicy): void {
    this.#byKey.delete(compiled.key);
    this.#global.delete(compiled.key);
    const ofNamespace = this.#byNamespace.get(compiled.policy.namespace);
    if (ofNamespace?.delete(compiled.key) && ofNamespace.size === 0)
      this.#byNamespace.delete(compiled.policy.namespace);
  }

  #compileAt(policy: Policy, at: string): CompiledPolicy {
    try {
      return compilePolicy(policy, this.#options);
    } catch (error) {
      if (!(error instanceof InvalidPolicyError)) throw error;
      throw new InvalidPolicyError({
        code: error.code,
        op: 'rbac.replace',
        field: error.field === undefined ? at : `${at}.${error.field}`,
        message: error.detail,
      });
    }
  }

  #tooMany(op: string): InvalidPolicyError {
    return new InvalidPolicyError({
      code: 'ERR_RBAC_LIMIT',
      op,
      field: 'policies',
      message: `a set holds at most ${this.#maxPolicies} policies`,
    });
  }
}
