import type { HeaderField } from '../http2/index.ts';
import type { SocketAddress } from '../ip/index.ts';
import { type Baggage, formatBaggage } from './baggage.ts';
import { formatForwarded } from './forwarded.ts';
import { invalidInput } from './hbone-error.ts';
import { formatTraceParent, type TraceParent } from './traceparent.ts';

/** Headers of one's own, in their order: names in lower case, values of latin1. */
export type HeadersInput = readonly HeaderField[] | Readonly<Record<string, string>>;

/** The headers that the mesh knows (facts sections 1.2 to 1.4); each left out where it is not given or empty. */
export interface MeshHeaders {
  /** What is told of the workload that sends: a client's own, or with the answer the destination's. */
  readonly baggage?: Baggage | undefined;
  /** Client: the address that the application's connection came from, and the service that it is for. */
  readonly forwarded?: { readonly source: SocketAddress; readonly host?: string | undefined } | undefined;
  /** Client: the trace that this connection is part of. `makeTraceParent(crypto.getRandomValues…)` begins one. */
  readonly traceParent?: TraceParent | undefined;
  /** Others, behind those. */
  readonly headers?: HeadersInput | undefined;
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there.
const VALUE = /^(?:[^\x00\n\r \t\u0100-\uffff](?:[^\x00\n\r\u0100-\uffff]*[^\x00\n\r \t\u0100-\uffff])?)?$/;
const HTTP1_ONLY = new Set(['connection', 'proxy-connection', 'keep-alive', 'transfer-encoding', 'upgrade', 'te']);

/**
 * Header fields in the order of the wire (facts section 1.2): baggage, forwarded, traceparent, others.
 *
 * @throws {InvalidInputError} `ERR_HBONE_INVALID`; `field` is `headers[1]`, or `headers.x-name`
 */
export function meshHeaderFields(op: string, input: MeshHeaders): HeaderField[] {
  const fields: HeaderField[] = [];
  const baggage = input.baggage === undefined ? '' : formatBaggage(input.baggage);
  if (baggage !== '') fields.push(['baggage', baggage]);
  if (input.forwarded !== undefined) {
    fields.push(['forwarded', formatForwarded(input.forwarded.source, input.forwarded.host)]);
  }
  if (input.traceParent !== undefined) fields.push(['traceparent', formatTraceParent(input.traceParent)]);
  const own = input.headers ?? [];
  if (Array.isArray(own)) {
    own.forEach((field, index) => {
      fields.push(checked(op, `headers[${index}]`, field));
    });
  } else {
    for (const field of Object.entries(own)) fields.push(checked(op, `headers.${field[0]}`, field));
  }
  return fields;
}

function checked(op: string, path: string, field: HeaderField): HeaderField {
  const [name, value] = field;
  if (typeof name !== 'string' || !TOKEN.test(name) || HTTP1_ONLY.has(name)) {
    throw invalidInput(op, path, 'the name must be a lower-case token that HTTP/2 allows');
  }
  if (typeof value !== 'string' || !VALUE.test(value)) {
    throw invalidInput(op, path, 'the value must be latin1 without CR, LF, NUL and outer spaces');
  }
  return [name, value];
}
