import { NFT_REG_VERDICT } from '../netlink/nftables/constants.ts';
import { NFT_BITWISE_LSHIFT } from '../netlink/nftables/expressions/bitwise.ts';
import type { Expression, InstalledRule, Verdict } from '../netlink/nftables/index.ts';
import type { Chances } from './chances.ts';
import { type Answer, compare, masked } from './compare.ts';
import { type Foreign, readForeign } from './foreign-expression.ts';
import * as n from './kernel-numbers.ts';
import type { KernelView, ViewSet } from './kernel-view.ts';
import { type Loading, load } from './load.ts';
import { lookUpSet } from './look-up-set.ts';
import { networkAddressTranslation } from './nat.ts';
import type { PacketState } from './packet-state.ts';
import { elementByChance, holdsByChance, type RandomNumber } from './random-number.ts';
import { type Bytes, hostBytes, hostNumber, isKnown, Registers, unknownBytes } from './registers.ts';
import { tproxyTo } from './tproxy.ts';
import { xtName } from './xtables/entry.ts';
import { decodeMatch } from './xtables/match.ts';
import { decodeTarget, notrack } from './xtables/target.ts';

/** What a rule did to the packet or its connection. */
export type Effect =
  | { readonly kind: 'mark' | 'connmark'; readonly before: number | undefined; readonly after: number | undefined }
  /** The kernel threw dice, and this is what happens where they fell so; `probability` where it is known. */
  | { readonly kind: 'chance'; readonly by: string; readonly taken: string; readonly probability?: number }
  | { readonly kind: 'zone'; readonly zone: number }
  | { readonly kind: 'untracked' | 'reject' }
  | { readonly kind: 'tproxy'; readonly ip: string | undefined; readonly port: number }
  /** `keeps` where the address is what it was: no other nat chain is asked (node mode, change 1). */
  | {
      readonly kind: 'dnat' | 'snat' | 'redirect' | 'masquerade';
      readonly ip: string;
      readonly port: number | undefined;
      readonly keeps: boolean;
    };

/** How a rule ended. Effects before a condition that was not met stay. */
export type Outcome =
  | { readonly kind: 'no-match'; readonly effects: readonly Effect[]; readonly note?: string }
  | { readonly kind: 'matched'; readonly effects: readonly Effect[]; readonly verdict: Verdict }
  /** Whether it matches hangs on something unknown; `matters` where it would do something if it did. */
  | { readonly kind: 'unknown'; readonly reason: string; readonly matters: boolean };

/** Those that decide nothing unless the rule matches. */
const STATEMENTS = new Set(['meta', 'ct', 'nat', 'redirect', 'masquerade', 'tproxy', 'reject', 'immediate']);

/** One rule being run. */
interface Run {
  readonly rule: InstalledRule;
  readonly state: PacketState;
  readonly view: KernelView;
  readonly chances: Chances;
  readonly registers: Registers;
  /** Why a register holds something unknown. */
  readonly reasons: Map<number, string>;
  readonly random: Map<number, RandomNumber>;
  readonly effects: Effect[];
  /** The first condition that cannot be judged. */
  doubt: string | undefined;
  /** Whether the rule would do something if that condition held. */
  matters: boolean;
}

/** What an expression decided. Undefined, where this is returned: on to the next one. */
type Decision =
  | { readonly kind: 'no-match'; readonly note?: string }
  | { readonly kind: 'verdict'; readonly verdict: Verdict };

const NO_MATCH: Decision = { kind: 'no-match' };

/**
 * Runs a rule's expressions over the packet as the kernel does, changing `state` by what the rule does. Three-valued: a condition on
 * something unknown leaves a doubt, after which only a condition that is certainly not met helps; nothing is guessed. Where the kernel
 * throws dice, `chances` says which way to go.
 */
export function evaluateRule(rule: InstalledRule, state: PacketState, view: KernelView, chances: Chances): Outcome {
  const effects: Effect[] = [];
  const run: Run = {
    rule,
    state,
    view,
    chances,
    registers: new Registers(),
    reasons: new Map(),
    random: new Map(),
    effects,
    doubt: undefined,
    matters: false,
  };
  for (const expression of rule.expressions) {
    if (run.doubt !== undefined && isStatement(expression)) {
      run.matters ||= !isTrace(expression);
      continue;
    }
    const decision = evaluate(expression, run);
    if (decision === undefined) continue;
    if (decision.kind === 'no-match') return { ...decision, effects };
    if (run.doubt === undefined) return { kind: 'matched', effects, verdict: decision.verdict };
  }
  if (run.doubt !== undefined) return { kind: 'unknown', reason: run.doubt, matters: run.matters };
  return { kind: 'matched', effects, verdict: { kind: 'continue' } };
}

function evaluate(expression: Expression, run: Run): Decision | undefined {
  const { registers, reasons, random, effects, state, view } = run;
  if (isLoad(expression)) {
    const { dreg } = expression;
    // Only the half of `payload` that reads has a register to read into.
    if (dreg === 0) return doubted('what it writes into the packet', run);
    random.delete(dreg);
    if (expression.type === 'meta' && expression.key === n.NFT_META_PRANDOM) {
      registers.load(dreg, unknownBytes(4));
      random.set(dreg, { modulus: 2 ** 32, offset: 0, by: 'meta random', bigEndian: false });
      return undefined;
    }
    const loaded = load(expression, state, view);
    if (loaded === 'break') return NO_MATCH;
    registers.load(dreg, loaded.bytes);
    reasons.set(dreg, loaded.unknown ?? '');
    return undefined;
  }
  switch (expression.type) {
    case 'meta':
    case 'ct':
      write(expression, registers, state, effects);
      return undefined;
    case 'bitwise':
      bitwise(expression, run);
      return undefined;
    case 'cmp': {
      const number = random.get(expression.sreg);
      const holds = (bytes: Bytes) => compare(bytes, expression.op, expression.value);
      if (number !== undefined) return chance(number, run, holds);
      return condition(holds(registers.read(expression.sreg, expression.value.length)), expression.sreg, run);
    }
    case 'lookup':
      return lookUp(expression, run);
    case 'immediate':
      if ('verdict' in expression) return { kind: 'verdict', verdict: expression.verdict };
      random.delete(expression.dreg);
      registers.load(expression.dreg, [...expression.value]);
      reasons.delete(expression.dreg);
      return undefined;
    case 'socket':
      random.delete(expression.dreg);
      registers.load(expression.dreg, unknownBytes(4));
      reasons.set(expression.dreg, 'the socket it belongs to');
      return undefined;
    case 'tproxy': {
      const found = tproxyTo(expression, registers, state, view);
      if (found === undefined) return { kind: 'no-match', note: 'no socket listens there' };
      if ('doubt' in found) {
        run.doubt = found.doubt;
        run.matters = true;
        return undefined;
      }
      state.tproxy = found;
      effects.push({ kind: 'tproxy', ...found });
      return undefined;
    }
    case 'nat':
    case 'redirect':
    case 'masquerade':
      return translated(networkAddressTranslation(expression, registers, state, view), run);
    case 'reject':
      effects.push({ kind: 'reject' });
      return { kind: 'verdict', verdict: { kind: 'drop' } };
    case 'opaque':
      return foreign(readForeign(expression), run);
    default:
      return undefined;
  }
}

function foreign(expression: Foreign, run: Run): Decision | undefined {
  const { registers, reasons, random, state, view, chances, effects } = run;
  switch (expression.type) {
    case 'harmless':
      return undefined;
    case 'notrack':
      if (run.doubt !== undefined) run.matters = true;
      else notrack(state, effects);
      return undefined;
    case 'range': {
      const { sreg, from, to, invert } = expression;
      const bytes = registers.read(sreg, from.length);
      const within = (value: Bytes): Answer =>
        isKnown(value)
          ? (Buffer.compare(Buffer.from(value), from) >= 0 && Buffer.compare(Buffer.from(value), to) <= 0) !== invert
          : 'unknown';
      const number = random.get(sreg);
      return number === undefined ? condition(within(bytes), sreg, run) : chance(number, run, within);
    }
    case 'number': {
      const { dreg, modulus, offset, by } = expression;
      registers.load(dreg, unknownBytes(4));
      reasons.set(dreg, by);
      random.set(dreg, { modulus, offset, by, bigEndian: false });
      return undefined;
    }
    case 'byteorder': {
      const { sreg, dreg, bytes, size } = expression;
      const number = random.get(sreg);
      const value = registers.read(sreg, bytes);
      const turned: number[] = [];
      for (let at = 0; at < bytes; at += size) turned.push(...value.slice(at, at + size).reverse());
      registers.load(dreg, turned);
      reasons.set(dreg, reasons.get(sreg) ?? '');
      random.delete(dreg);
      if (number !== undefined) random.set(dreg, { ...number, bigEndian: !number.bigEndian });
      return undefined;
    }
    case 'match': {
      const match = decodeMatch(expression, state.family);
      if (match === undefined) return doubted(`the match ${xtName(expression)}`, run, 'condition');
      const answer = match.holds(state, view);
      if (answer === true) return undefined;
      if (answer === false) return NO_MATCH;
      if ('doubt' in answer) return doubted(answer.doubt, run, 'condition');
      // Nobody asks the dice about a rule that is in doubt anyway.
      if (run.doubt !== undefined) return undefined;
      const isTaken = chances.choose(2) === 0;
      const probability = isTaken ? answer.probability : 1 - answer.probability;
      effects.push({ kind: 'chance', by: answer.by, taken: isTaken ? 'yes' : 'no', probability });
      return isTaken ? undefined : NO_MATCH;
    }
    case 'target': {
      const target = decodeTarget(expression, state.family);
      if (run.doubt !== undefined) {
        run.matters ||= target?.isHarmless !== true;
        return undefined;
      }
      if (target === undefined) return doubted(`the target ${xtName(expression)}`, run);
      const answer = target.apply(state, view, effects);
      if (typeof answer !== 'string') return answer === undefined ? undefined : { kind: 'verdict', verdict: answer };
      return doubted(answer, run);
    }
    case 'unknown':
      return doubted(expression.why, run, expression.isCondition ? 'condition' : 'anything');
  }
}

/**
 * After something that cannot be judged, any register may hold anything.
 *
 * @param what - `condition`: it only says whether the rule goes on; otherwise it may have been the statement itself
 */
function doubted(reason: string, run: Run, what: 'condition' | 'anything' = 'anything'): undefined {
  run.doubt ??= reason;
  if (what === 'anything') run.matters = true;
  run.registers.forget();
  run.random.clear();
  return undefined;
}

function chance(number: RandomNumber, run: Run, holds: (bytes: Bytes) => Answer): Decision | undefined {
  // Nobody throws dice for a rule that is in doubt anyway.
  return run.doubt !== undefined || holdsByChance(number, run, holds) ? undefined : NO_MATCH;
}

function condition(answer: Answer, register: number, run: Run): Decision | undefined {
  if (answer === false) return NO_MATCH;
  if (answer === 'unknown') run.doubt ??= run.reasons.get(register) || 'a register';
  return undefined;
}

/** `@set`, `!= @set`, `map @map` (a value into a register) and `vmap @map` (a verdict). */
function lookUp(expression: Extract<Expression, { type: 'lookup' }>, run: Run): Decision | undefined {
  const { sreg, dreg, invert, set: name } = expression;
  const { registers, reasons, random } = run;
  const set = setOf(expression, run.rule, run.view);
  const number = random.get(sreg);
  const found =
    set === undefined
      ? 'unknown'
      : number === undefined
        ? lookUpSet(set, registers.read(sreg, set.keyBytes))
        : run.doubt === undefined
          ? elementByChance(set, number, run)
          : 'unknown';
  if (found === 'unknown') {
    // A verdict map decides by itself, without a statement behind it.
    if (dreg === NFT_REG_VERDICT || set === undefined || set.kind === 'other') run.matters = true;
    if (dreg !== undefined && dreg !== NFT_REG_VERDICT) registers.load(dreg, unknownBytes(16));
    run.doubt ??= reasons.get(sreg) || `what the set ${name} has for it`;
    return undefined;
  }
  if (dreg === undefined) return (found !== 'missing') === invert ? NO_MATCH : undefined;
  if (found === 'missing') return NO_MATCH;
  random.delete(dreg);
  const { verdict, value } = found;
  if (verdict !== undefined) {
    if (run.doubt !== undefined) {
      run.matters ||= verdict.kind !== 'continue';
      return undefined;
    }
    return verdict.kind === 'continue' ? undefined : { kind: 'verdict', verdict };
  }
  const bytes = value === undefined ? unknownBytes(16) : [...Buffer.from(value, 'hex')];
  registers.load(dreg, bytes);
  reasons.set(dreg, value === undefined ? `what the map ${name} has for it` : '');
  return undefined;
}

function bitwise(expression: Extract<Expression, { type: 'bitwise' }>, run: Run): void {
  const { sreg, dreg, mask, xor, shift, op } = expression;
  const { registers, reasons, random } = run;
  const number = random.get(sreg);
  random.delete(dreg);
  // A masked random number is one still, of which only that it may be this or that is known.
  if (number !== undefined) random.set(dreg, { ...number, modulus: Number.POSITIVE_INFINITY });
  if (mask.length > 0) {
    registers.load(dreg, masked(registers.read(sreg, mask.length), mask, xor));
    reasons.set(dreg, reasons.get(sreg) ?? 'a register');
  } else if (shift !== undefined && shift.bytes === 4 && shift.bits < 32) {
    const value = hostNumber(registers.read(sreg, 4));
    const shifted =
      value === undefined ? undefined : (op === NFT_BITWISE_LSHIFT ? value << shift.bits : value >>> shift.bits) >>> 0;
    registers.load(dreg, hostBytes(shifted, 4));
    reasons.set(dreg, reasons.get(sreg) ?? 'a register');
  } else {
    registers.load(dreg, unknownBytes(16));
    reasons.set(dreg, 'a bitwise operation of this kind');
  }
}

function translated(effect: Effect | string, run: Run): Decision | undefined {
  if (typeof effect === 'string') {
    run.doubt = effect;
    run.matters = true;
    return undefined;
  }
  run.effects.push(effect);
  return { kind: 'verdict', verdict: { kind: 'accept' } };
}

function isLoad(expression: Expression): expression is Loading {
  if (expression.type === 'meta' || expression.type === 'ct') return 'dreg' in expression;
  return expression.type === 'payload' || expression.type === 'fib';
}

function isStatement(expression: Expression): boolean {
  if (expression.type === 'meta' || expression.type === 'ct') return 'sreg' in expression;
  if (expression.type === 'immediate') return 'verdict' in expression;
  return STATEMENTS.has(expression.type);
}

function isTrace(expression: Expression): boolean {
  return expression.type === 'meta' && expression.key === n.NFT_META_NFTRACE;
}

function setOf(
  { set: name }: Extract<Expression, { type: 'lookup' }>,
  { table }: InstalledRule,
  { sets }: KernelView,
): ViewSet | undefined {
  return sets.find(
    (candidate) =>
      candidate.name === name && candidate.table.name === table.name && candidate.table.family === table.family,
  );
}

function write(
  expression: Extract<Expression, { type: 'meta' | 'ct' }> & { readonly sreg: number },
  registers: Registers,
  state: PacketState,
  effects: Effect[],
): void {
  const { key, sreg } = expression;
  if (expression.type === 'meta') {
    if (key !== n.NFT_META_MARK) return;
    const before = state.mark;
    state.mark = hostNumber(registers.read(sreg, 4));
    effects.push({ kind: 'mark', before, after: state.mark });
  } else if (key === n.NFT_CT_ZONE) {
    state.zone = hostNumber(registers.read(sreg, 2)) ?? 0;
    effects.push({ kind: 'zone', zone: state.zone });
  } else if (key === n.NFT_CT_MARK && state.connection !== undefined && state.connection.state !== 'untracked') {
    const before = state.connection.mark;
    state.connection.mark = hostNumber(registers.read(sreg, 4));
    effects.push({ kind: 'connmark', before, after: state.connection.mark });
  }
}
