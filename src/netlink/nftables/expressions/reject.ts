import type { ExpressionCodec } from './codec.ts';

// enum nft_reject_attributes
export const NFTA_REJECT_TYPE = 1;
export const NFTA_REJECT_ICMP_CODE = 2;

// enum nft_reject_types
export const NFT_REJECT_ICMP_UNREACH = 0;
export const NFT_REJECT_TCP_RST = 1;

/** `reject` (ICMP port unreachable is type ICMP_UNREACH, code 3 in IPv4) or `reject with tcp reset`. */
export interface Reject {
  readonly type: 'reject';
  readonly kind: number;
  readonly icmpCode: number;
}

export const reject: ExpressionCodec<Reject> = {
  name: 'reject',
  encode(expression, writer) {
    writer.attrU32be(NFTA_REJECT_TYPE, expression.kind);
    writer.attrU8(NFTA_REJECT_ICMP_CODE, expression.icmpCode);
  },
  decode(reader) {
    let kind = 0;
    let icmpCode = 0;
    while (reader.next()) {
      if (reader.type === NFTA_REJECT_TYPE) kind = reader.u32be();
      else if (reader.type === NFTA_REJECT_ICMP_CODE) icmpCode = reader.u8();
    }
    return { type: 'reject', kind, icmpCode };
  },
};
