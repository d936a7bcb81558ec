import type { HeaderField } from './header-field.ts';
import { invalidInput } from './http2-error.ts';

/** A request as it arrived. CONNECT has an authority and neither scheme nor path (RFC 9113 section 8.5). */
export interface Http2Request {
  readonly method: string;
  readonly authority: string | undefined;
  readonly scheme: string | undefined;
  readonly path: string | undefined;
  /** The fields that are no pseudo-header fields, in the order of the wire. */
  readonly headers: readonly HeaderField[];
}

/** A response as it arrived. */
export interface Http2Response {
  readonly status: number;
  readonly headers: readonly HeaderField[];
}

/** What {@link contentLength} gives where there is no such field, and where it is malformed. */
export const NO_CONTENT_LENGTH = -1;
export const BAD_CONTENT_LENGTH = -2;

// RFC 9110 section 5.6.2 token characters without upper case (RFC 9113 section 8.2.1).
const NAME_CHARACTERS = new Uint8Array(128);
for (const character of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") {
  NAME_CHARACTERS[character.charCodeAt(0)] = 1;
}

const CONNECTION_SPECIFIC: ReadonlySet<string> = new Set([
  'connection',
  'proxy-connection',
  'keep-alive',
  'transfer-encoding',
  'upgrade',
]);

/** The request of a decoded header list, or undefined when it is malformed (RFC 9113 sections 8.2, 8.3 and 8.5). */
export function parseRequest(fields: readonly HeaderField[]): Http2Request | undefined {
  let method: string | undefined;
  let authority: string | undefined;
  let scheme: string | undefined;
  let path: string | undefined;
  const regular = countPseudo(fields);
  for (let i = 0; i < regular; i++) {
    const [name, value] = fields[i]!;
    if (!validValue(value)) return undefined;
    if (name === ':method' && method === undefined) method = value;
    else if (name === ':authority' && authority === undefined) authority = value;
    else if (name === ':scheme' && scheme === undefined) scheme = value;
    else if (name === ':path' && path === undefined) path = value;
    else return undefined;
  }
  if (!validRegular(fields, regular) || !isToken(method)) return undefined;
  if (method === 'CONNECT') {
    if (authority === undefined || scheme !== undefined || path !== undefined) return undefined;
  } else if (!scheme || !path) return undefined;
  return { method, authority, scheme, path, headers: fields.slice(regular) };
}

/** The response of a decoded header list, or undefined when it is malformed (RFC 9113 section 8.3.2). */
export function parseResponse(fields: readonly HeaderField[]): Http2Response | undefined {
  if (countPseudo(fields) !== 1) return undefined;
  const [name, value] = fields[0]!;
  if (name !== ':status' || !/^[1-9][0-9][0-9]$/.test(value) || !validRegular(fields, 1)) return undefined;
  return { status: Number(value), headers: fields.slice(1) };
}

/** Trailers have no pseudo-header fields (RFC 9113 section 8.1). */
export function validTrailers(fields: readonly HeaderField[]): boolean {
  return validRegular(fields, 0);
}

/** The announced size of the content, {@link NO_CONTENT_LENGTH} or {@link BAD_CONTENT_LENGTH}. */
export function contentLength(headers: readonly HeaderField[]): number {
  let length = NO_CONTENT_LENGTH;
  for (const [name, value] of headers) {
    if (name !== 'content-length') continue;
    const bytes = /^[0-9]{1,15}$/.test(value) ? Number(value) : BAD_CONTENT_LENGTH;
    if (bytes === BAD_CONTENT_LENGTH || (length !== NO_CONTENT_LENGTH && length !== bytes)) return BAD_CONTENT_LENGTH;
    length = bytes;
  }
  return length;
}

/**
 * Checks fields that our own caller wants to send; throws `ERR_HTTP2_INVALID` with the path of the bad one
 * (`headers[2].value`). Pseudo-header fields are the connection's to write.
 */
export function checkHeaders(op: string, headers: readonly HeaderField[]): void {
  for (let i = 0; i < headers.length; i++) {
    const [name, value] = headers[i]!;
    if (!validName(name)) throw invalidInput(op, `headers[${i}].name`, 'must be a lower-case token');
    if (forbidden(name, value)) throw invalidInput(op, `headers[${i}].name`, `${name} is of HTTP/1.1 only`);
    checkValue(op, `headers[${i}].value`, value);
  }
}

/** Throws `ERR_HTTP2_INVALID` unless the value can stand in a header field: latin1, no CR, LF or NUL, no space around it. */
export function checkValue(op: string, field: string, value: string): void {
  if (!validValue(value)) {
    throw invalidInput(op, field, 'must be latin1 without control characters that end a line and without outer spaces');
  }
}

function countPseudo(fields: readonly HeaderField[]): number {
  let count = 0;
  while (count < fields.length && fields[count]![0].charCodeAt(0) === 0x3a) count++;
  return count;
}

function validRegular(fields: readonly HeaderField[], from: number): boolean {
  for (let i = from; i < fields.length; i++) {
    const [name, value] = fields[i]!;
    // A pseudo-header field behind a regular one fails here: a colon is no token character.
    if (!validName(name) || !validValue(value) || forbidden(name, value)) return false;
  }
  return true;
}

function forbidden(name: string, value: string): boolean {
  return CONNECTION_SPECIFIC.has(name) || (name === 'te' && value !== 'trailers');
}

function validName(name: string): boolean {
  for (let i = 0; i < name.length; i++) {
    const code = name.charCodeAt(i);
    if (code > 127 || NAME_CHARACTERS[code] === 0) return false;
  }
  return name.length > 0;
}

function isToken(text: string | undefined): text is string {
  return text !== undefined && validName(text.toLowerCase());
}

function validValue(value: string): boolean {
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i);
    if (code === 0x00 || code === 0x0a || code === 0x0d || code > 0xff) return false;
  }
  return value.length === 0 || !(isSpace(value.charCodeAt(0)) || isSpace(value.charCodeAt(value.length - 1)));
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x09;
}
