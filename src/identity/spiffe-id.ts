import { quoted, refuseInput } from './errors.ts';

declare const spiffeId: unique symbol;

/**
 * An Istio workload identity in its only spelling, `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`. A string
 * to everyone who reads it (`===` compares, it keys a `Map`); made only by {@link parseSpiffeId} and {@link formatSpiffeId}.
 */
export type SpiffeId = string & { readonly [spiffeId]: true };

/** The three names an identity is made of. */
export interface SpiffeIdParts {
  /** Lower-case letters, digits, `.`, `-`, `_`; 1 to 255 of them (SPIFFE-ID section 2.1): `cluster.local`. */
  readonly trustDomain: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** An identity together with its parts. */
export interface WorkloadIdentity extends SpiffeIdParts {
  readonly id: SpiffeId;
}

/** SPIFFE-ID section 2.3: what an implementation must be able to carry, and here also the most it carries. */
export const SPIFFE_ID_MAX_BYTES = 2048;

const scheme = 'spiffe://';
const trustDomainGrammar = /^[a-z0-9._-]{1,255}$/;
const segmentGrammar = /^[A-Za-z0-9._-]+$/;

/** True for a name that can be a trust domain. */
export function isTrustDomain(text: string): boolean {
  return trustDomainGrammar.test(text);
}

/**
 * Reads an identity by Istio's grammar (facts section 1.6): the scheme and exactly five parts. Nothing is repaired: case,
 * percent signs, a port, a query or a trailing slash make it another text, hence an error.
 *
 * @throws {InvalidInputError} `ERR_IDENTITY_SPIFFE_ID`; `field` is `spiffeId` or the part at fault (`spiffeId.namespace`).
 */
export function parseSpiffeId(text: string): WorkloadIdentity {
  const identity = tryParseSpiffeId(text);
  if (identity !== undefined) return identity;
  explainRefusal(text);
}

/** {@link parseSpiffeId} for a text that is likely to be something else: `undefined` instead of an error. */
export function tryParseSpiffeId(text: string): WorkloadIdentity | undefined {
  // Every allowed character is one byte, so the number of characters is the number of bytes.
  if (typeof text !== 'string' || text.length > SPIFFE_ID_MAX_BYTES || !text.startsWith(scheme)) return undefined;
  const parts = text.slice(scheme.length).split('/');
  if (parts.length !== 5 || parts[1] !== 'ns' || parts[3] !== 'sa') return undefined;
  const [trustDomain, , namespace, , serviceAccount] = parts as [string, string, string, string, string];
  if (!isTrustDomain(trustDomain) || !isSegment(namespace) || !isSegment(serviceAccount)) return undefined;
  return { id: text as SpiffeId, trustDomain, namespace, serviceAccount };
}

/**
 * Writes an identity; the inverse of {@link parseSpiffeId}.
 *
 * @throws {InvalidInputError} `ERR_IDENTITY_SPIFFE_ID` with the part at fault as `field`.
 */
export function formatSpiffeId(parts: SpiffeIdParts): SpiffeId {
  checkParts(parts, 'identity.formatSpiffeId', '');
  const id = `${scheme}${parts.trustDomain}/ns/${parts.namespace}/sa/${parts.serviceAccount}`;
  if (id.length > SPIFFE_ID_MAX_BYTES) tooLong(id.length, 'identity.formatSpiffeId', 'serviceAccount');
  return id as SpiffeId;
}

/** SPIFFE-ID section 2.2: a segment is not empty and, since no path is ever resolved, not `.` or `..` either. */
function isSegment(text: string): boolean {
  return segmentGrammar.test(text) && text !== '.' && text !== '..';
}

function checkParts(parts: SpiffeIdParts, op: string, path: string): void {
  const fault = (field: string, value: unknown, expected: string): never =>
    refuseInput({
      code: 'ERR_IDENTITY_SPIFFE_ID',
      op,
      field: `${path}${field}`,
      message: `expected ${expected}, got ${quoted(String(value))}`,
    });
  if (typeof parts.trustDomain !== 'string' || !isTrustDomain(parts.trustDomain))
    fault('trustDomain', parts.trustDomain, '1 to 255 of a-z 0-9 . - _');
  if (typeof parts.namespace !== 'string' || !isSegment(parts.namespace))
    fault('namespace', parts.namespace, 'a name of A-Z a-z 0-9 . - _');
  if (typeof parts.serviceAccount !== 'string' || !isSegment(parts.serviceAccount))
    fault('serviceAccount', parts.serviceAccount, 'a name of A-Z a-z 0-9 . - _');
}

function tooLong(length: number, op: string, field: string): never {
  refuseInput({
    code: 'ERR_IDENTITY_SPIFFE_ID',
    op,
    field,
    message: `${length} characters, at most ${SPIFFE_ID_MAX_BYTES}`,
  });
}

function explainRefusal(text: unknown): never {
  const op = 'identity.parseSpiffeId';
  if (typeof text === 'string') {
    if (text.length > SPIFFE_ID_MAX_BYTES) tooLong(text.length, op, 'spiffeId');
    const parts = text.startsWith(scheme) ? text.slice(scheme.length).split('/') : [];
    if (parts.length === 5 && parts[1] === 'ns' && parts[3] === 'sa') {
      const [trustDomain, , namespace, , serviceAccount] = parts as [string, string, string, string, string];
      checkParts({ trustDomain, namespace, serviceAccount }, op, 'spiffeId.');
    }
  }
  refuseInput({
    code: 'ERR_IDENTITY_SPIFFE_ID',
    op,
    field: 'spiffeId',
    message: `expected spiffe://<trust domain>/ns/<namespace>/sa/<service account>, got ${quoted(String(text))}`,
  });
}
