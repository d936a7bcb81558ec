/** An expression that this library has no file for (iptables-nft's `match` and `target`, `limit`, …): kept as it came, and written back so. */
export interface Opaque {
  readonly type: 'opaque';
  /** The kernel's name. */
  readonly name: string;
  /** The attributes inside `NFTA_EXPR_DATA`. */
  readonly data: Uint8Array;
}
