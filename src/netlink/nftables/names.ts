import { NFT_NAME_MAXLEN } from './constants.ts';
import { invalid } from './error.ts';

/** What nft's own grammar reads back unquoted, so that a listing can be loaded again. */
const name = /^[A-Za-z_][A-Za-z0-9_/\\.-]*$/;

/**
 * A name of a table, chain or set.
 *
 * @throws {InvalidInputError} `ERR_NFTABLES_INVALID` naming `field`
 */
export function checkName(value: string, field: string): string {
  if (typeof value !== 'string' || !name.test(value)) {
    throw invalid(field, `${JSON.stringify(value)} is no name: a letter, then letters, digits, "_", "-", ".", "/"`);
  }
  if (value.length >= NFT_NAME_MAXLEN)
    throw invalid(field, `${value.length} characters, the kernel takes ${NFT_NAME_MAXLEN - 1}`);
  return value;
}

/**
 * A network device's name: 1 to 15 bytes, no white space, no slash, not `.` or `..` (the kernel's `dev_valid_name`).
 *
 * @throws {InvalidInputError} `ERR_NFTABLES_INVALID` naming `field`
 */
export function checkInterfaceName(value: string, field: string): string {
  const length = typeof value === 'string' ? Buffer.byteLength(value) : 0;
  if (length < 1 || length > 15 || /[\s/:\0]/.test(value) || value === '.' || value === '..') {
    throw invalid(field, `${JSON.stringify(value)} is no interface name: 1 to 15 bytes without space, "/" or ":"`);
  }
  return value;
}

/** A port number. @throws {InvalidInputError} `ERR_NFTABLES_INVALID` naming `field` */
export function checkPort(value: number, field: string): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff) throw invalid(field, `${value} is not 0 to 65535`);
  return value;
}

/** A conntrack zone. @throws {InvalidInputError} `ERR_NFTABLES_INVALID` naming `zone` */
export function checkZone(value: number): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff) throw invalid('zone', `${value} is not 0 to 65535`);
  return value;
}
