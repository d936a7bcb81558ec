import type { ViewElement, ViewSet } from './kernel-view.ts';
import { type Bytes, hexOf, isKnown, UNKNOWN } from './registers.ts';

/** What a set has for a key: an element, `missing`, or `unknown` where that hangs on an unknown byte. */
export type Found = ViewElement | 'missing' | 'unknown';

/**
 * Looks a key up as the kernel does. With unknown bytes in the key, the answer is still sure where the known ones fit no element, or
 * where no known byte is asked for.
 */
export function lookUpSet(set: ViewSet, bytes: Bytes): Found {
  const elements = set.elements.filter(({ isRest }) => !isRest);
  const rest = set.elements.find(({ isRest }) => isRest);
  const missing = rest ?? 'missing';
  if (elements.length === 0) return missing;
  switch (set.kind) {
    case 'keys':
      return among(elements, (element) => hasKey(element.key, bytes)) ?? missing;
    case 'ranges':
      return isKnown(bytes) ? (rangeOf(elements, hexOf(bytes)) ?? missing) : 'unknown';
    case 'fields': {
      const { fieldBytes = [] } = set;
      return among(elements, ({ key, last }) => hasFields(key, last ?? key, fieldBytes, bytes)) ?? missing;
    }
    case 'other':
      return 'unknown';
  }
}

/** The first that has it; `unknown` where one may have it. */
function among(
  elements: readonly ViewElement[],
  has: (element: ViewElement) => boolean | 'unknown',
): Found | undefined {
  let maybe: 'unknown' | undefined;
  for (const element of elements) {
    const answer = has(element);
    if (answer === true) return element;
    if (answer === 'unknown') maybe = answer;
  }
  return maybe;
}

function hasKey(key: string, bytes: Bytes): boolean | 'unknown' {
  let isSure = true;
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] === UNKNOWN) isSure = false;
    else if (bytes[i] !== byteAt(key, i)) return false;
  }
  return isSure || 'unknown';
}

/** Hexadecimal of one length sorts as the numbers do. Where a range ends and the next begins, the beginning counts. */
function rangeOf(elements: readonly ViewElement[], key: string): ViewElement | undefined {
  let within: ViewElement | undefined;
  let last = '';
  for (const element of elements) {
    if (element.key > key || element.key < last || (element.key === last && element.end)) continue;
    last = element.key;
    within = element.end ? undefined : element;
  }
  return within;
}

function hasFields(first: string, last: string, fieldBytes: readonly number[], bytes: Bytes): boolean | 'unknown' {
  let isSure = true;
  let at = 0;
  for (const length of fieldBytes) {
    const value = bytes.slice(at, at + length);
    const [from, to] = [first, last].map((key) => key.slice(at * 2, (at + length) * 2)) as [string, string];
    at += (length + 3) & ~3;
    if (/^0*$/.test(from) && /^f*$/.test(to)) continue;
    if (!isKnown(value)) isSure = false;
    else if (hexOf(value) < from || hexOf(value) > to) return false;
  }
  return isSure || 'unknown';
}

function byteAt(hex: string, at: number): number {
  return Number.parseInt(hex.slice(at * 2, at * 2 + 2), 16);
}
