import type { ExpressionCodec } from './codec.ts';

// enum nft_masq_attributes
export const NFTA_MASQ_FLAGS = 1;

/** `masquerade`: source NAT to the address of the outgoing interface, in a nat chain of postrouting. */
export interface Masquerade {
  readonly type: 'masquerade';
  /** `NF_NAT_RANGE_*` bits, such as `random` (4) and `fully-random` (16). */
  readonly flags?: number;
}

export const masquerade: ExpressionCodec<Masquerade> = {
  name: 'masq',
  encode(expression, writer) {
    if (expression.flags !== undefined) writer.attrU32be(NFTA_MASQ_FLAGS, expression.flags);
  },
  decode(reader) {
    let flags = 0;
    while (reader.next()) if (reader.type === NFTA_MASQ_FLAGS) flags = reader.u32be();
    return flags === 0 ? { type: 'masquerade' } : { type: 'masquerade', flags };
  },
};
