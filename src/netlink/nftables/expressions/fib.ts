import type { ExpressionCodec } from './codec.ts';

// enum nft_fib_attributes
export const NFTA_FIB_DREG = 1;
export const NFTA_FIB_RESULT = 2;
export const NFTA_FIB_FLAGS = 3;

// enum nft_fib_result
export const NFT_FIB_RESULT_OIF = 1;
export const NFT_FIB_RESULT_OIFNAME = 2;
export const NFT_FIB_RESULT_ADDRTYPE = 3;

// enum nft_fib_flags
export const NFTA_FIB_F_SADDR = 1;
export const NFTA_FIB_F_DADDR = 2;
export const NFTA_FIB_F_MARK = 4;
export const NFTA_FIB_F_IIF = 8;
export const NFTA_FIB_F_OIF = 16;

// <linux/rtnetlink.h>: what NFT_FIB_RESULT_ADDRTYPE leaves in the register, in host byte order
export const RTN_UNICAST = 1;
export const RTN_LOCAL = 2;

/** A routing-table answer into a register: `fib saddr type local` is ADDRTYPE of SADDR, compared with RTN_LOCAL. */
export interface Fib {
  readonly type: 'fib';
  readonly dreg: number;
  readonly result: number;
  readonly flags: number;
}

export const fib: ExpressionCodec<Fib> = {
  name: 'fib',
  encode(expression, writer) {
    writer.attrU32be(NFTA_FIB_FLAGS, expression.flags);
    writer.attrU32be(NFTA_FIB_RESULT, expression.result);
    writer.attrU32be(NFTA_FIB_DREG, expression.dreg);
  },
  decode(reader) {
    let dreg = 0;
    let result = 0;
    let flags = 0;
    while (reader.next()) {
      if (reader.type === NFTA_FIB_DREG) dreg = reader.u32be();
      else if (reader.type === NFTA_FIB_RESULT) result = reader.u32be();
      else if (reader.type === NFTA_FIB_FLAGS) flags = reader.u32be();
    }
    return { type: 'fib', dreg, result, flags };
  },
};
