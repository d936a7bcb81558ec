import { type Cidr, tryParseCidr } from '../ip/index.ts';
import type {
  CompiledClause,
  CompiledMatch,
  CompiledPolicy,
  CompiledRule,
  CompiledStringMatch,
  PolicyWarning,
} from './compiled-policy.ts';
import { InvalidPolicyError } from './errors.ts';
import { type Policy, type PolicyMatch, policyKey, type ServiceAccountMatch, type StringMatch } from './policy.ts';

/** How a policy is read. */
export interface CompileOptions {
  /**
   * What an empty match means in a DENY policy, where it is what remains of conditions that this layer cannot see (L7
   * attributes) or cannot read. `'never-matches'` is ztunnel's answer: such a DENY denies nothing. `'fail-closed'` lets
   * it match, so that the rest of its rule decides. An ALLOW's empty match never matches, in either mode.
   * Default `'never-matches'`.
   */
  readonly emptyMatch?: 'never-matches' | 'fail-closed' | undefined;
  /**
   * Reads as ztunnel reads the wire (facts section 3.5): an unparsable range and a string match without a kind are
   * dropped with a warning, ports are cut to 16 bits and prefix lengths to 8. Default false: each is an error.
   */
  readonly lenient?: boolean | undefined;
  /** The most rules, clauses, matches and values that one policy may have together. Default 100,000. */
  readonly maxPolicyNodes?: number | undefined;
}

/** Default of {@link CompileOptions.maxPolicyNodes}. */
export const DEFAULT_MAX_POLICY_NODES = 100_000;

/**
 * Checks a policy and makes it ready to be matched; ranges are parsed here and never again.
 * @throws {@link InvalidPolicyError} ERR_RBAC_POLICY naming the field: wrong type, unknown field, bad value;
 *   ERR_RBAC_LIMIT beyond `maxPolicyNodes`; ERR_RBAC_OPTION for a bad option
 */
export function compilePolicy(policy: Policy, options: CompileOptions = {}): CompiledPolicy {
  checkCompileOptions(options);
  return new PolicyCompiler(options).compile(policy);
}

/** Refuses what would quietly turn into a default: a misspelt `fail-closed` must not fail open. */
export function checkCompileOptions(options: CompileOptions): void {
  const { emptyMatch, lenient } = options;
  if (emptyMatch !== undefined && emptyMatch !== 'never-matches' && emptyMatch !== 'fail-closed') {
    throw invalidOption('emptyMatch', "expected 'never-matches' or 'fail-closed'");
  }
  if (lenient !== undefined && typeof lenient !== 'boolean') throw invalidOption('lenient', 'expected true or false');
  checkLimit('maxPolicyNodes', options.maxPolicyNodes, DEFAULT_MAX_POLICY_NODES);
}

export function checkLimit(field: string, value: number | undefined, standard: number): number {
  if (value === undefined) return standard;
  if (!Number.isSafeInteger(value) || value < 0) throw invalidOption(field, 'expected an integer from 0 on');
  return value;
}

function invalidOption(field: string, message: string): InvalidPolicyError {
  return new InvalidPolicyError({ code: 'ERR_RBAC_OPTION', op: 'rbac.options', field, message });
}

const POLICY_FIELDS = ['name', 'namespace', 'scope', 'action', 'dryRun', 'rules'] as const;
const STRING_KINDS = ['exact', 'prefix', 'suffix', 'presence'] as const;
const SERVICE_ACCOUNT_FIELDS = ['namespace', 'serviceAccount'] as const;
const MATCH_FIELDS = [
  'namespaces',
  'notNamespaces',
  'principals',
  'notPrincipals',
  'sourceIps',
  'notSourceIps',
  'destinationIps',
  'notDestinationIps',
  'destinationPorts',
  'notDestinationPorts',
  'serviceAccounts',
  'notServiceAccounts',
] as const satisfies readonly (keyof PolicyMatch)[];

type MatchField = (typeof MATCH_FIELDS)[number];

class PolicyCompiler {
  readonly #lenient: boolean;
  readonly #failClosed: boolean;
  readonly #maxNodes: number;
  readonly #warnings: PolicyWarning[] = [];
  #nodes = 0;
  #denies = false;

  constructor(options: CompileOptions) {
    this.#lenient = options.lenient ?? false;
    this.#failClosed = options.emptyMatch === 'fail-closed';
    this.#maxNodes = options.maxPolicyNodes ?? DEFAULT_MAX_POLICY_NODES;
  }

  compile(input: unknown): CompiledPolicy {
    const fields = record(input, '', POLICY_FIELDS);
    const name = text(fields.name, 'name');
    const namespace = text(fields.namespace, 'namespace');
    if (name === '') throw invalid('name', 'must not be empty');
    if (namespace === '') throw invalid('namespace', 'must not be empty');
    // The first slash of a key ends the namespace: with one inside it, two policies could share a key.
    if (namespace.includes('/')) throw invalid('namespace', 'must not contain "/"');
    const scope = oneOf(fields.scope, 'scope', ['Global', 'Namespace', 'WorkloadSelector'] as const);
    const action = oneOf(fields.action, 'action', ['Allow', 'Deny'] as const);
    if (typeof fields.dryRun !== 'boolean')
      throw invalid('dryRun', `expected true or false, got ${typeName(fields.dryRun)}`);
    this.#denies = action === 'Deny';
    const rules = this.#list(fields.rules, 'rules', (rule, field) => this.#rule(rule, field));
    return {
      key: policyKey({ namespace, name }),
      policy: { name, namespace, scope, action, dryRun: fields.dryRun, rules: rules.map(ruleData) },
      rules,
      warnings: this.#warnings,
    };
  }

  #rule(input: unknown, field: string): CompiledRule {
    return this.#list(input, field, (clause, at) => this.#clause(clause, at));
  }

  #clause(input: unknown, field: string): CompiledClause {
    return this.#list(input, field, (match, at) => this.#match(match, at));
  }

  #match(input: unknown, field: string): CompiledMatch {
    const fields = record(input, field, MATCH_FIELDS);
    const list = <T>(key: MatchField, item: (value: unknown, at: string) => T | undefined): readonly T[] =>
      fields[key] === undefined ? [] : this.#list(fields[key], `${field}.${key}`, item);
    const string = (value: unknown, at: string) => this.#stringMatch(value, at);
    const principal = (value: unknown, at: string) => this.#principal(value, at);
    const range = (value: unknown, at: string) => this.#range(value, at);
    const port = (value: unknown, at: string) => this.#port(value, at);
    const lists = {
      namespaces: list('namespaces', string),
      notNamespaces: list('notNamespaces', string),
      principals: list('principals', principal),
      notPrincipals: list('notPrincipals', principal),
      sourceIps: list('sourceIps', range),
      notSourceIps: list('notSourceIps', range),
      destinationIps: list('destinationIps', range),
      notDestinationIps: list('notDestinationIps', range),
      destinationPorts: list('destinationPorts', port),
      notDestinationPorts: list('notDestinationPorts', port),
      serviceAccounts: list('serviceAccounts', serviceAccount),
      notServiceAccounts: list('notServiceAccounts', serviceAccount),
    };
    const empty = MATCH_FIELDS.every((key) => lists[key].length === 0);
    const matchesWhenEmpty = this.#denies && this.#failClosed;
    if (empty) {
      this.#warn(
        field,
        matchesWhenEmpty ? 'empty match: it matches everything (fail-closed)' : 'empty match: it never matches',
      );
    }
    return { empty, matchesWhenEmpty, ...lists };
  }

  #stringMatch(input: unknown, field: string): CompiledStringMatch | undefined {
    const fields = record(input, field, STRING_KINDS);
    const given = STRING_KINDS.filter((kind) => fields[kind] !== undefined);
    if (given.length === 0 && this.#lenient) {
      this.#warn(field, 'dropped: none of exact, prefix, suffix, presence');
      return undefined;
    }
    const kind = given[0];
    if (kind === undefined || given.length > 1)
      throw invalid(field, 'expected exactly one of exact, prefix, suffix, presence');
    if (kind !== 'presence') return { kind, text: text(fields[kind], `${field}.${kind}`) };
    if (fields.presence !== true) throw invalid(`${field}.presence`, 'expected true');
    return { kind, text: '' };
  }

  #principal(input: unknown, field: string): CompiledStringMatch | undefined {
    const match = this.#stringMatch(input, field);
    if (
      match !== undefined &&
      (match.kind === 'exact' || match.kind === 'prefix') &&
      match.text.startsWith('spiffe://')
    ) {
      this.#warn(field, 'never matches: principals are written without "spiffe://"');
    }
    return match;
  }

  #range(input: unknown, field: string): Cidr | undefined {
    let value = text(input, field);
    if (this.#lenient) value = value.replace(/\/(\d{1,10})$/, (_, length: string) => `/${Number(length) & 0xff}`);
    const cidr = tryParseCidr(value);
    if (cidr !== undefined) return cidr;
    if (!this.#lenient) throw invalid(field, 'expected a range of the form address/prefix, such as 10.1.0.0/16');
    this.#warn(field, 'dropped: not a range of the form address/prefix');
    return undefined;
  }

  #port(input: unknown, field: string): number {
    const port = this.#lenient && Number.isInteger(input) ? (input as number) & 0xffff : input;
    if (typeof port !== 'number' || !Number.isInteger(port) || port < 0 || port > 65535) {
      throw invalid(field, 'expected an integer from 0 to 65535');
    }
    return port;
  }

  #list<T>(input: unknown, field: string, item: (value: unknown, field: string) => T | undefined): readonly T[] {
    if (!Array.isArray(input)) throw invalid(field, `expected a list, got ${typeName(input)}`);
    this.#nodes += input.length;
    if (this.#nodes > this.#maxNodes) {
      throw new InvalidPolicyError({
        code: 'ERR_RBAC_LIMIT',
        op: 'rbac.compile',
        field,
        message: `the policy has more than ${this.#maxNodes} rules, clauses, matches and values`,
      });
    }
    const items: T[] = [];
    for (let index = 0; index < input.length; index++) {
      const value = item(input[index], `${field}[${index}]`);
      if (value !== undefined) items.push(value);
    }
    return items;
  }

  #warn(field: string, message: string): void {
    this.#warnings.push({ field, message });
  }
}

function serviceAccount(input: unknown, field: string): ServiceAccountMatch {
  const fields = record(input, field, SERVICE_ACCOUNT_FIELDS);
  return {
    namespace: text(fields.namespace, `${field}.namespace`),
    serviceAccount: text(fields.serviceAccount, `${field}.serviceAccount`),
  };
}

/** An unknown field is refused: a misspelt condition left aside would leave a wider match, or an empty one. */
function record<K extends string>(input: unknown, field: string, known: readonly K[]): Partial<Record<K, unknown>> {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    throw invalid(field, `expected an object, got ${typeName(input)}`);
  }
  for (const key of Object.keys(input)) {
    if (!(known as readonly string[]).includes(key)) {
      const path = field === '' ? key : `${field}.${key}`;
      throw invalid(path.slice(0, 200), `unknown field; known are ${known.join(', ')}`);
    }
  }
  return input as Partial<Record<K, unknown>>;
}

function text(input: unknown, field: string): string {
  if (typeof input !== 'string') throw invalid(field, `expected a string, got ${typeName(input)}`);
  return input;
}

function oneOf<T extends string>(input: unknown, field: string, values: readonly T[]): T {
  const value = values.find((candidate) => candidate === input);
  if (value === undefined) throw invalid(field, `expected one of ${values.join(', ')}`);
  return value;
}

function typeName(value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'a list' : typeof value;
}

function invalid(field: string, message: string): InvalidPolicyError {
  return new InvalidPolicyError({
    code: 'ERR_RBAC_POLICY',
    op: 'rbac.compile',
    field: field === '' ? undefined : field,
    message,
  });
}

function ruleData(rule: CompiledRule): PolicyMatch[][] {
  return rule.map((clause) => clause.map(matchData));
}

function matchData(match: CompiledMatch): PolicyMatch {
  const data: { [K in MatchField]?: unknown } = {};
  for (const key of MATCH_FIELDS) {
    if (match[key].length > 0) data[key] = match[key].map(valueData);
  }
  return data as PolicyMatch;
}

function valueData(value: CompiledStringMatch | Cidr | number | ServiceAccountMatch): unknown {
  if (typeof value === 'number' || 'serviceAccount' in value) return value;
  if ('prefixLength' in value) return value.text;
  const match: StringMatch = value.kind === 'presence' ? { presence: true } : stringData(value.kind, value.text);
  return match;
}

function stringData(kind: 'exact' | 'prefix' | 'suffix', value: string): StringMatch {
  return kind === 'exact' ? { exact: value } : kind === 'prefix' ? { prefix: value } : { suffix: value };
}
