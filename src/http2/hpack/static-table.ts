import type { HeaderField } from '../header-field.ts';

/** RFC 7541 appendix A; index 1 is the first entry, index 0 is not used. */
export const STATIC_TABLE: readonly HeaderField[] = [
  ['', ''],
  [':authority', ''],
  [':method', 'GET'],
  [':method', 'POST'],
  [':path', '/'],
  [':path', '/index.html'],
  [':scheme', 'http'],
  [':scheme', 'https'],
  [':status', '200'],
  [':status', '204'],
  [':status', '206'],
  [':status', '304'],
  [':status', '400'],
  [':status', '404'],
  [':status', '500'],
  ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'],
  ['accept-language', ''],
  ['accept-ranges', ''],
  ['accept', ''],
  ['access-control-allow-origin', ''],
  ['age', ''],
  ['allow', ''],
  ['authorization', ''],
  ['cache-control', ''],
  ['content-disposition', ''],
  ['content-encoding', ''],
  ['content-language', ''],
  ['content-length', ''],
  ['content-location', ''],
  ['content-range', ''],
  ['content-type', ''],
  ['cookie', ''],
  ['date', ''],
  ['etag', ''],
  ['expect', ''],
  ['expires', ''],
  ['from', ''],
  ['host', ''],
  ['if-match', ''],
  ['if-modified-since', ''],
  ['if-none-match', ''],
  ['if-range', ''],
  ['if-unmodified-since', ''],
  ['last-modified', ''],
  ['link', ''],
  ['location', ''],
  ['max-forwards', ''],
  ['proxy-authenticate', ''],
  ['proxy-authorization', ''],
  ['range', ''],
  ['referer', ''],
  ['refresh', ''],
  ['retry-after', ''],
  ['server', ''],
  ['set-cookie', ''],
  ['strict-transport-security', ''],
  ['transfer-encoding', ''],
  ['user-agent', ''],
  ['vary', ''],
  ['via', ''],
  ['www-authenticate', ''],
];

/** 61: dynamic entries count on from 62. */
export const STATIC_ENTRIES: number = STATIC_TABLE.length - 1;

const FIRST_OF_NAME = new Map<string, number>();
for (let index = STATIC_ENTRIES; index > 0; index--) FIRST_OF_NAME.set(STATIC_TABLE[index]![0], index);

/** Index of the first entry of that name, or 0. Entries of one name stand together. */
export function staticNameIndex(name: string): number {
  return FIRST_OF_NAME.get(name) ?? 0;
}

/** Index of the entry of that name and value, or 0; `nameIndex` is what {@link staticNameIndex} gave. */
export function staticFieldIndex(nameIndex: number, name: string, value: string): number {
  for (let index = nameIndex; index > 0 && index <= STATIC_ENTRIES; index++) {
    const entry = STATIC_TABLE[index]!;
    if (entry[0] !== name) return 0;
    if (entry[1] === value) return index;
  }
  return 0;
}
