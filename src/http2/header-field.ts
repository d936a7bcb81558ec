/**
 * One header field. Names are lower case; values are latin1, one character a byte. Tuples are shared with the HPACK
 * tables, so they are never changed.
 */
export type HeaderField = readonly [name: string, value: string];

/** Size of a field as RFC 7541 section 4.1 and SETTINGS_MAX_HEADER_LIST_SIZE count it: 32 bytes over its content. */
export function fieldBytes(name: string, value: string): number {
  return name.length + value.length + 32;
}
