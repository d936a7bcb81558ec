import { formatIp, ipFromBytes } from '../ip/index.ts';
import type { Expression, InstalledRule, Verdict } from '../netlink/nftables/index.ts';
import * as n from './kernel-numbers.ts';
import type { KernelView, ViewSet } from './kernel-view.ts';
import { type Loading, load } from './load.ts';
import { networkAddressTranslation } from './nat.ts';
import type { PacketState } from './packet-state.ts';
import { type Bytes, hexOf, hostNumber, isKnown, networkNumber, Registers, UNKNOWN } from './registers.ts';

/** What a rule did to the packet or its connection. */
export type Effect =
  | { readonly kind: 'mark' | 'connmark'; readonly before: number | undefined; readonly after: number | undefined }
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

type Answer = boolean | 'unknown';

/** Expressions without a codec that neither decide nor change anything that matters here. */
const HARMLESS = new Set(['log', 'last', 'objref', 'dup']);
/** Those that decide nothing unless the rule matches. */
const STATEMENTS = new Set(['meta', 'ct', 'nat', 'redirect', 'masquerade', 'tproxy', 'reject', 'immediate']);

/**
 * Runs a rule's expressions over the packet as the kernel does, changing `state` by what the rule does. Three-valued: a condition on
 * something unknown leaves a doubt, after which only a condition that is certainly not met helps; nothing is guessed.
 */
export function evaluateRule(rule: InstalledRule, state: PacketState, view: KernelView): Outcome {
  const registers = new Registers();
  const effects: Effect[] = [];
  const reasons = new Map<number, string>();
  const reasonOf = (register: number) => reasons.get(register) || 'a register';
  let doubt: string | undefined;
  let matters = false;
  for (const expression of rule.expressions) {
    if (doubt !== undefined && isStatement(expression)) {
      matters ||= !isTrace(expression);
      continue;
    }
    if (isLoad(expression)) {
      const loaded = load(expression, state, view);
      if (loaded === 'break') return { kind: 'no-match', effects };
      registers.load(expression.dreg, loaded.bytes);
      reasons.set(expression.dreg, loaded.unknown ?? '');
      continue;
    }
    switch (expression.type) {
      case 'counter':
        break;
      case 'meta':
      case 'ct':
        write(expression, registers, state, effects);
        break;
      case 'bitwise': {
        const { sreg, dreg, mask, xor } = expression;
        const why = reasons.get(sreg);
        // Shifts and operations on two registers have no mask.
        if (mask.length === 0) registers.load(dreg, new Array<number>(16).fill(UNKNOWN));
        else registers.load(dreg, masked(registers.read(sreg, mask.length), mask, xor));
        reasons.set(dreg, mask.length === 0 ? 'a bitwise operation of this kind' : (why ?? 'a register'));
        break;
      }
      case 'cmp': {
        const answer = compare(
          registers.read(expression.sreg, expression.value.length),
          expression.op,
          expression.value,
        );
        if (answer === false) return { kind: 'no-match', effects };
        if (answer === 'unknown') doubt ??= reasonOf(expression.sreg);
        break;
      }
      case 'lookup': {
        const set = setOf(expression, rule, view);
        const answer = lookUp(expression, set, registers);
        // A verdict map decides by itself, without a statement behind it.
        if (answer === 'unknown') matters ||= set === undefined || set.kind === 'other';
        if (answer === false) return { kind: 'no-match', effects };
        if (answer === 'unknown') doubt ??= reasons.get(expression.sreg) || `the set ${expression.set}`;
        break;
      }
      case 'immediate':
        if ('verdict' in expression) return { kind: 'matched', effects, verdict: expression.verdict };
        registers.load(expression.dreg, [...expression.value]);
        break;
      case 'socket':
        registers.load(expression.dreg, new Array<number>(4).fill(UNKNOWN));
        reasons.set(expression.dreg, 'the socket it belongs to');
        break;
      case 'tproxy': {
        const found = tproxy(expression, registers, state, view);
        if (found === undefined) return { kind: 'no-match', effects, note: 'no socket listens there' };
        if ('doubt' in found) {
          doubt = found.doubt;
          matters = true;
        } else {
          state.tproxy = found;
          effects.push({ kind: 'tproxy', ...found });
        }
        break;
      }
      case 'nat':
      case 'redirect':
      case 'masquerade': {
        const effect = networkAddressTranslation(expression, registers, state, view);
        if (typeof effect === 'string') return { kind: 'unknown', reason: effect, matters: true };
        effects.push(effect);
        return { kind: 'matched', effects, verdict: { kind: 'accept' } };
      }
      case 'reject':
        effects.push({ kind: 'reject' });
        return { kind: 'matched', effects, verdict: { kind: 'drop' } };
      case 'opaque':
        if (expression.name === 'notrack') {
          if (state.connection === undefined) state.isUntracked = true;
          effects.push({ kind: 'untracked' });
        } else if (!HARMLESS.has(expression.name)) {
          doubt ??= `the expression ${JSON.stringify(expression.name)}`;
          // It may be the statement itself.
          matters = true;
          registers.forget();
        }
        break;
    }
  }
  if (doubt !== undefined) return { kind: 'unknown', reason: doubt, matters };
  return { kind: 'matched', effects, verdict: { kind: 'continue' } };
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

function masked(bytes: Bytes, mask: Uint8Array, xor: Uint8Array): number[] {
  return bytes.map((byte, i) => {
    const bits = mask[i]!;
    // A byte of which nothing is kept is known, whatever it was.
    if (byte === UNKNOWN && bits !== 0) return UNKNOWN;
    return ((byte & bits) ^ (xor[i] ?? 0)) & 0xff;
  });
}

/** As memcmp, which is what nf_tables does with values that nft has put into network byte order. */
function compare(bytes: Bytes, op: number, value: Uint8Array): Answer {
  if (op === n.NFT_CMP_EQ || op === n.NFT_CMP_NEQ) {
    const differs = bytes.some((byte, i) => byte !== UNKNOWN && byte !== value[i]);
    if (differs) return op === n.NFT_CMP_NEQ;
    return isKnown(bytes) ? op === n.NFT_CMP_EQ : 'unknown';
  }
  if (!isKnown(bytes)) {
    // `meta skuid >= 0` asks nothing.
    return op === n.NFT_CMP_GTE && value.every((byte) => byte === 0) ? true : 'unknown';
  }
  const order = Buffer.compare(Buffer.from(bytes), value);
  if (op === n.NFT_CMP_LT) return order < 0;
  if (op === n.NFT_CMP_LTE) return order <= 0;
  if (op === n.NFT_CMP_GT) return order > 0;
  if (op === n.NFT_CMP_GTE) return order >= 0;
  return 'unknown';
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

function lookUp(
  { sreg, invert }: Extract<Expression, { type: 'lookup' }>,
  set: ViewSet | undefined,
  registers: Registers,
): Answer {
  if (set === undefined) return 'unknown';
  if (set.elements.length === 0) return invert;
  const bytes = registers.read(sreg, set.keyBytes);
  if (set.kind === 'other' || !isKnown(bytes)) return 'unknown';
  const key = hexOf(bytes);
  if (set.kind === 'keys') return set.elements.some((element) => element.key === key) !== invert;
  // Hexadecimal of one length sorts as the numbers do. Where a range ends and the next begins, the beginning counts.
  let within = false;
  let last = '';
  for (const element of set.elements) {
    if (element.key > key || element.key < last || (element.key === last && element.end)) continue;
    last = element.key;
    within = !element.end;
  }
  return within !== invert;
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

/** The listener a packet is given to, nothing where there is none. */
function tproxy(
  { addressRegister, portRegister }: Extract<Expression, { type: 'tproxy' }>,
  registers: Registers,
  state: PacketState,
  { listeners }: KernelView,
): { ip: string | undefined; port: number } | { doubt: string } | undefined {
  const length = state.family === 4 ? 4 : 16;
  const bytes = addressRegister === undefined ? undefined : registers.read(addressRegister, length);
  const ip = bytes === undefined ? undefined : formatIp(ipFromBytes(Uint8Array.from(bytes)));
  const port = portRegister === undefined ? state.destinationPort : networkNumber(registers.read(portRegister, 2));
  if (port === undefined || (bytes !== undefined && !isKnown(bytes))) return { doubt: 'where tproxy leads' };
  const candidates = listeners.filter((one) => one.port === port && one.protocol === state.protocol);
  const any = candidates.some((one) => one.ip === '::' || (one.ip === '0.0.0.0' && state.family === 4));
  if (any || (ip !== undefined && candidates.some((one) => one.ip === ip))) return { ip, port };
  if (ip === undefined && candidates.length > 0) return { doubt: 'which address of the device tproxy takes' };
  // A socket of this very connection would do as well.
  if (state.connection !== undefined && state.connection.state !== 'new')
    return { doubt: 'whether a socket has this connection' };
  return undefined;
}
