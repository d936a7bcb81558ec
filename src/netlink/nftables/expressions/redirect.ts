import type { ExpressionCodec } from './codec.ts';
import { NF_NAT_RANGE_PROTO_SPECIFIED } from './nat.ts';

// enum nft_redir_attributes
export const NFTA_REDIR_REG_PROTO_MIN = 1;
export const NFTA_REDIR_FLAGS = 3;

/** `redirect to :15001`: destination NAT to this host, in a nat chain of prerouting or output. */
export interface Redirect {
  readonly type: 'redirect';
  /** Register with the port in network byte order; without it the port stays. */
  readonly portRegister?: number;
}

export const redirect: ExpressionCodec<Redirect> = {
  name: 'redir',
  encode(expression, writer) {
    if (expression.portRegister === undefined) return;
    writer.attrU32be(NFTA_REDIR_REG_PROTO_MIN, expression.portRegister);
    writer.attrU32be(NFTA_REDIR_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED);
  },
  decode(reader) {
    let portRegister: number | undefined;
    while (reader.next()) if (reader.type === NFTA_REDIR_REG_PROTO_MIN) portRegister = reader.u32be();
    return portRegister === undefined ? { type: 'redirect' } : { type: 'redirect', portRegister };
  },
};
