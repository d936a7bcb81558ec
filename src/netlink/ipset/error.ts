import { AmbientError, InvalidInputError } from '../../errors/index.ts';
import { EEXIST, ENOENT } from '../../system/index.ts';
import type { NetlinkError } from '../netlink-error.ts';
import * as c from './constants.ts';

/** What an {@link IpsetError} adds. */
export interface IpsetErrorInit {
  readonly code: string;
  readonly op: string;
  readonly set: string;
  readonly message: string;
  readonly errno: number;
  readonly cause: unknown;
}

/**
 * The kernel refused something about a set. `code` is `ERR_IPSET_EXISTS`, `ERR_IPSET_MISSING`, `ERR_IPSET_BUSY` (a rule uses it),
 * `ERR_IPSET_MISMATCH` (another type, family, or without comments), `ERR_IPSET_FULL`, or `ERR_IPSET_REJECTED` for the rest.
 */
export class IpsetError extends AmbientError {
  override readonly name = 'IpsetError';
  readonly set: string;
  /** The kernel's number: an errno, or one of ipset's own from 4097 on. */
  readonly errno: number;

  constructor(init: IpsetErrorInit) {
    super(init);
    this.set = init.set;
    this.errno = init.errno;
  }
}

const meanings: ReadonlyMap<number, readonly [code: string, text: string]> = new Map([
  [EEXIST, ['ERR_IPSET_EXISTS', 'is there already']],
  [c.IPSET_ERR_EXIST, ['ERR_IPSET_EXISTS', 'has this member already']],
  [ENOENT, ['ERR_IPSET_MISSING', 'is not there']],
  [c.IPSET_ERR_EXIST_SETNAME2, ['ERR_IPSET_MISSING', 'or the set to swap it with is not there']],
  [c.IPSET_ERR_BUSY, ['ERR_IPSET_BUSY', 'is in use by a rule']],
  [c.IPSET_ERR_REFERENCED, ['ERR_IPSET_BUSY', 'is in use by a rule']],
  [c.IPSET_ERR_TYPE_MISMATCH, ['ERR_IPSET_MISMATCH', 'is of another type or family']],
  [c.IPSET_ERR_INVALID_FAMILY, ['ERR_IPSET_MISMATCH', 'is of another family']],
  [c.IPSET_ERR_IPADDR_IPV4, ['ERR_IPSET_MISMATCH', 'holds IPv4 addresses']],
  [c.IPSET_ERR_IPADDR_IPV6, ['ERR_IPSET_MISMATCH', 'holds IPv6 addresses']],
  [c.IPSET_ERR_PROTOCOL, ['ERR_IPSET_MISMATCH', 'takes no member like this: of another family, or another type']],
  [c.IPSET_ERR_COMMENT, ['ERR_IPSET_MISMATCH', 'was created without comments']],
  [c.IPSET_ERR_HASH_FULL, ['ERR_IPSET_FULL', 'is full: see maxElements']],
  [c.IPSET_ERR_MAX_SETS, ['ERR_IPSET_FULL', 'is one set too many for the kernel']],
  [c.IPSET_ERR_FIND_TYPE, ['ERR_IPSET_REJECTED', 'needs hash:ip in the kernel: CONFIG_IP_SET_HASH_IP']],
]);

/** @returns the typed form of what the kernel said about a set */
export function ipsetError(op: string, set: string, error: NetlinkError): IpsetError {
  const errno = error.errno ?? 0;
  const [code, text] = meanings.get(errno) ?? ['ERR_IPSET_REJECTED', `was refused with ${error.code}`];
  return new IpsetError({ code, op, set, message: `the set ${set} ${text}`, errno, cause: error });
}

/** @returns an {@link InvalidInputError} `ERR_IPSET_INVALID` about one field */
export function invalid(op: string, field: string, message: string): InvalidInputError {
  return new InvalidInputError({ code: 'ERR_IPSET_INVALID', op, field, message });
}
