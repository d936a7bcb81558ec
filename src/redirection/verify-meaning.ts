import type { Expression } from '../netlink/nftables/index.ts';

/** What a rule does, free of how it is written: registers, the order of conditions, counters. */
export interface RuleMeaning {
  /** Each once, sorted. */
  readonly conditions: readonly string[];
  /** In the order in which they are done. */
  readonly actions: readonly string[];
}

/** A register's contents: something of the packet, or a constant; then `(it & mask) ^ xor`. */
interface Value {
  readonly of: string;
  readonly constant: boolean;
  readonly mask: Uint8Array | undefined;
  readonly xor: Uint8Array | undefined;
}

const comparisons = ['==', '!=', '<', '<=', '>', '>='];
const nameKeys = new Set([6, 7]);
const NFT_REG_VERDICT = 0;

/**
 * What `expressions` mean. Two rules with the same meaning do the same to every packet, whether they were written by this library,
 * `nft -f` or another version of either: `meta mark set meta mark & 0xfffff400 | 0x400` and `… & 0xfffff000 | 0x400` are one.
 */
export function meaningOf(expressions: readonly Expression[]): RuleMeaning {
  const registers = new Map<number, Value>();
  const conditions = new Set<string>();
  const actions: string[] = [];
  const load = (register: number, of: string) => {
    registers.set(register, { of, constant: false, mask: undefined, xor: undefined });
  };
  const read = (register: number): string => text(registers.get(register));
  const reads = (names: Readonly<Record<string, number | undefined>>) =>
    Object.entries(names).flatMap(([name, register]) => (register === undefined ? [] : [`${name} ${read(register)}`]));
  for (const expression of expressions) {
    switch (expression.type) {
      case 'counter':
        break;
      case 'meta':
        if ('dreg' in expression) load(expression.dreg, `meta ${expression.key}`);
        else actions.push(`set meta ${expression.key} = ${read(expression.sreg)}`);
        break;
      case 'ct':
        if ('dreg' in expression) load(expression.dreg, `ct ${expression.key} ${expression.direction ?? ''}`.trim());
        else actions.push(`set ct ${expression.key} = ${read(expression.sreg)}`);
        break;
      case 'payload':
        load(expression.dreg, `payload ${expression.base} ${expression.offset} ${expression.length}`);
        break;
      case 'fib':
        load(expression.dreg, `fib ${expression.result} ${expression.flags}`);
        break;
      case 'socket':
        load(expression.dreg, `socket ${expression.key}`);
        break;
      case 'bitwise': {
        const before = registers.get(expression.sreg);
        if (expression.op !== undefined) {
          load(expression.dreg, `${read(expression.sreg)} by ${expression.op} ${JSON.stringify(expression.shift)}`);
          break;
        }
        if (before !== undefined) registers.set(expression.dreg, rewritten(before, expression.mask, expression.xor));
        break;
      }
      case 'cmp':
        conditions.add(comparison(registers.get(expression.sreg), expression.op, expression.value));
        break;
      case 'lookup':
        conditions.add(`${read(expression.sreg)} ${expression.invert ? 'not in' : 'in'} @${expression.set}`);
        // Of a map: what the address leads to is loaded, or done at once.
        if (expression.dreg === NFT_REG_VERDICT) actions.push(`verdict of @${expression.set}`);
        else if (expression.dreg !== undefined) {
          load(expression.dreg, `${read(expression.sreg)} by @${expression.set}`);
        }
        break;
      case 'immediate':
        if ('value' in expression) {
          const value = Buffer.from(expression.value).toString('hex');
          registers.set(expression.dreg, { of: value, constant: true, mask: undefined, xor: undefined });
        } else {
          const { verdict } = expression;
          actions.push('chain' in verdict ? `${verdict.kind} ${verdict.chain}` : verdict.kind);
        }
        break;
      case 'tproxy':
        // Breaks off where nobody listens, so what comes behind it is done for the others only.
        actions.push(['tproxy', ...reads({ to: expression.addressRegister, port: expression.portRegister })].join(' '));
        break;
      case 'nat':
        actions.push(
          [
            expression.kind,
            ...reads({ to: expression.addressRegister, port: expression.portRegister }),
            ...reads({ 'to last': expression.lastAddressRegister, 'last port': expression.lastPortRegister }),
            ...flagsOf(expression),
          ].join(' '),
        );
        break;
      case 'redirect': {
        const { portRegister: port, lastPortRegister: last } = expression;
        actions.push(['redirect', ...reads({ port, last }), ...flagsOf(expression)].join(' '));
        break;
      }
      case 'masquerade':
        actions.push(['masquerade', ...flagsOf(expression)].join(' '));
        break;
      case 'reject':
        actions.push(`reject ${expression.kind} ${expression.icmpCode}`);
        break;
      case 'opaque':
        // A match of iptables-nft is a condition, but only xtables can say which: kept in its place.
        actions.push(`${expression.name} ${Buffer.from(expression.data).toString('hex')}`);
        break;
      default:
        actions.push(JSON.stringify(expression));
    }
  }
  return { conditions: [...conditions].sort(), actions };
}

function flagsOf({ flags }: { readonly flags?: number }): string[] {
  return flags === undefined ? [] : [`flags ${flags}`];
}

/** Whether two rules do the same. */
export function sameMeaning(a: RuleMeaning, b: RuleMeaning): boolean {
  return same(a.conditions, b.conditions) && same(a.actions, b.actions);
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((item, i) => item === b[i]);
}

/** `((x & m) ^ v) & mask ^ xor` is one step: `x & (m & mask) ^ ((v & mask) ^ xor)`. */
function rewritten(before: Value, mask: Uint8Array, xor: Uint8Array): Value {
  if (before.constant) {
    const bytes = Buffer.from(before.of, 'hex');
    return { ...before, of: bytesOf(bytes.map((byte, i) => (byte & (mask[i] ?? 0)) ^ (xor[i] ?? 0))) };
  }
  return {
    ...before,
    mask: before.mask === undefined ? mask : mask.map((byte, i) => byte & (before.mask?.[i] ?? 0)),
    xor: before.xor === undefined ? xor : xor.map((byte, i) => byte ^ ((before.xor?.[i] ?? 0) & (mask[i] ?? 0))),
  };
}

/** `(x & m) ^ v == w` is `x & m == w ^ v`; that is true of equality only, and nothing else is compared behind a mask. */
function comparison(left: Value | undefined, op: number, value: Uint8Array): string {
  const sign = comparisons[op] ?? String(op);
  if (left === undefined) return `${text(left)} ${sign} ${bytesOf(value)}`;
  const meta = /^meta (\d+)$/.exec(left.of)?.[1];
  // An interface's name may be written with or without the NULs that fill its register.
  const right = meta !== undefined && nameKeys.has(Number(meta)) ? trimmed(value) : value;
  if (left.xor === undefined || op > 1) return `${text(left)} ${sign} ${bytesOf(right)}`;
  const { xor } = left;
  const moved = right.map((byte, i) => byte ^ (xor[i] ?? 0));
  return `${text({ ...left, xor: undefined })} ${sign} ${bytesOf(moved)}`;
}

function trimmed(value: Uint8Array): Uint8Array {
  let end = value.length;
  while (end > 1 && value[end - 1] === 0) end--;
  // A name that matches by its beginning has no NUL at all.
  return end === value.length ? value : value.subarray(0, end + 1);
}

function text(value: Value | undefined): string {
  if (value === undefined) return '?';
  const mask = value.mask === undefined || value.mask.every((byte) => byte === 0xff) ? '' : ` & ${bytesOf(value.mask)}`;
  const xor = value.xor === undefined || value.xor.every((byte) => byte === 0) ? '' : ` ^ ${bytesOf(value.xor)}`;
  return `(${value.of}${mask}${xor})`;
}

function bytesOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}
