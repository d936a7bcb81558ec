import type { AttributeReader } from '../../attribute-reader.ts';
import type { MessageWriter } from '../../message-writer.ts';
import { NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_LIST_ELEM } from '../constants.ts';
import { type Bitwise, bitwise } from './bitwise.ts';
import { type Cmp, cmp } from './cmp.ts';
import type { ExpressionCodec } from './codec.ts';
import { type Counter, counter } from './counter.ts';
import { type Ct, ct } from './ct.ts';
import { type Fib, fib } from './fib.ts';
import { type Immediate, immediate } from './immediate.ts';
import { type Lookup, lookup } from './lookup.ts';
import { type Masquerade, masquerade } from './masquerade.ts';
import { type Meta, meta } from './meta.ts';
import { type Nat, nat } from './nat.ts';
import type { Opaque } from './opaque.ts';
import { type Payload, payload } from './payload.ts';
import { type Redirect, redirect } from './redirect.ts';
import { type Reject, reject } from './reject.ts';
import { type Socket, socket } from './socket.ts';
import { type Tproxy, tproxy } from './tproxy.ts';

export type { ExpressionCodec } from './codec.ts';
export type { Verdict } from './verdict.ts';
export type {
  Bitwise,
  Cmp,
  Counter,
  Ct,
  Fib,
  Immediate,
  Lookup,
  Masquerade,
  Meta,
  Nat,
  Opaque,
  Payload,
  Redirect,
  Reject,
  Socket,
  Tproxy,
};

/** One step of a rule, as a plain object. A rule runs them in order until one ends it. */
export type Expression =
  | Bitwise
  | Cmp
  | Counter
  | Ct
  | Fib
  | Immediate
  | Lookup
  | Masquerade
  | Meta
  | Nat
  | Opaque
  | Payload
  | Redirect
  | Reject
  | Socket
  | Tproxy;

type Known = Exclude<Expression, Opaque>;

const codecs: { readonly [T in Known['type']]: ExpressionCodec<Extract<Known, { type: T }>> } = {
  bitwise,
  cmp,
  counter,
  ct,
  fib,
  immediate,
  lookup,
  masquerade,
  meta,
  nat,
  payload,
  redirect,
  reject,
  socket,
  tproxy,
};

const byName = new Map<string, ExpressionCodec<Known>>(
  Object.values(codecs).map((codec) => [codec.name, codec as unknown as ExpressionCodec<Known>]),
);

/** Writes `NFTA_LIST_ELEM { NFTA_EXPR_NAME, NFTA_EXPR_DATA { … } }`. */
export function encodeExpression(expression: Expression, writer: MessageWriter): void {
  writer.nest(NFTA_LIST_ELEM, (element) => {
    if (expression.type === 'opaque') {
      element.attrString(NFTA_EXPR_NAME, expression.name);
      element.nest(NFTA_EXPR_DATA, (data) => {
        data.bytes(expression.data);
      });
      return;
    }
    const codec = codecs[expression.type] as unknown as ExpressionCodec<Known>;
    element.attrString(NFTA_EXPR_NAME, codec.name);
    element.nest(NFTA_EXPR_DATA, (data) => codec.encode(expression, data));
  });
}

/** Reads what is inside one `NFTA_LIST_ELEM`. The kernel writes the name before the data, as this relies on. */
export function decodeExpression(reader: AttributeReader): Expression {
  let name = '';
  let expression: Expression | undefined;
  while (reader.next()) {
    if (reader.type === NFTA_EXPR_NAME) name = reader.string();
    if (reader.type !== NFTA_EXPR_DATA) continue;
    const codec = byName.get(name);
    expression =
      codec === undefined ? { type: 'opaque', name, data: Buffer.from(reader.bytes()) } : codec.decode(reader.nested());
  }
  // An expression without attributes comes without NFTA_EXPR_DATA.
  return expression ?? { type: 'opaque', name, data: Buffer.alloc(0) };
}
