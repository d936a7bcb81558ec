import { AmbientError, InvalidInputError } from '../../errors/index.ts';

/** What a {@link NftablesError} adds. */
export interface NftablesErrorInit {
  /** The command at fault, as nft would write it: `add rule ip ztunnel-mangle ztunnel-PREROUTING "prerouting-8"`. */
  readonly command: string;
  /** Its place in the batch, from 0. */
  readonly index: number;
  /** The kernel's errno, positive; 0 where the kernel gave none. */
  readonly errno: number;
  /** The kernel's own words: extended-ack text, else the errno's name. */
  readonly kernel: string;
  readonly cause: unknown;
}

/** The kernel refused a batch, and so changed nothing. `code` is `ERR_NFTABLES_REJECTED`. */
export class NftablesError extends AmbientError {
  override readonly name = 'NftablesError';
  readonly command: string;
  readonly index: number;
  readonly errno: number;
  readonly kernel: string;

  constructor(init: NftablesErrorInit) {
    super({
      code: 'ERR_NFTABLES_REJECTED',
      op: 'nftables.commit',
      message: `${init.command}: ${init.kernel} (nothing of the batch is in force)`,
      cause: init.cause,
    });
    this.command = init.command;
    this.index = init.index;
    this.errno = init.errno;
    this.kernel = init.kernel;
  }
}

/** @returns an {@link InvalidInputError} `ERR_NFTABLES_INVALID` about one field */
export function invalid(field: string, message: string): InvalidInputError {
  return new InvalidInputError({ code: 'ERR_NFTABLES_INVALID', op: 'nftables.build', field, message });
}
