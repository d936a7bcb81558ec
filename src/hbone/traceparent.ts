/** The ids of a W3C trace context, lower-case hex. */
export interface TraceParent {
  /** 32 digits. */
  readonly traceId: string;
  /** 16 digits. */
  readonly parentId: string;
  /** 2 digits; `00` is not sampled. */
  readonly flags: string;
}

/** Fills the array with random bytes and gives it back, as `crypto.getRandomValues` does. */
export type RandomBytes = (into: Uint8Array) => Uint8Array;

/** A new trace for one connection (facts section 1.2): random ids, not sampled. Asks for 24 random bytes. */
export function makeTraceParent(randomBytes: RandomBytes): TraceParent {
  const hex = Buffer.from(randomBytes(new Uint8Array(24))).toString('hex');
  return { traceId: nonZero(hex.slice(0, 32)), parentId: nonZero(hex.slice(32)), flags: '00' };
}

/** `00-<trace id>-<parent id>-<flags>`, W3C Trace Context section 3.2, version 00. */
export function formatTraceParent({ traceId, parentId, flags }: TraceParent): string {
  return `00-${traceId}-${parentId}-${flags}`;
}

/**
 * Reads a `traceparent` value: exactly 55 characters, four fields of hex (facts section 1.3). Undefined otherwise, and for
 * version `ff` and ids of all zeros, which W3C Trace Context section 3.2.2 makes invalid: start a new trace then.
 */
export function parseTraceParent(value: string): TraceParent | undefined {
  if (value.length !== 55) return undefined;
  const match = /^([0-9a-fA-F]{2})-([0-9a-fA-F]{32})-([0-9a-fA-F]{16})-([0-9a-fA-F]{2})$/.exec(value);
  if (match === null) return undefined;
  const [version, traceId, parentId, flags] = match.slice(1).map((field) => field.toLowerCase());
  if (version === 'ff' || /^0+$/.test(traceId!) || /^0+$/.test(parentId!)) return undefined;
  return { traceId: traceId!, parentId: parentId!, flags: flags! };
}

function nonZero(hex: string): string {
  return /^0+$/.test(hex) ? hex.replace(/.$/, '1') : hex;
}
