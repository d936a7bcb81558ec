import type { ExpressionCodec } from './codec.ts';
import { NF_NAT_RANGE_OF_REGISTERS, NF_NAT_RANGE_PROTO_SPECIFIED } from './nat.ts';

// enum nft_redir_attributes
export const NFTA_REDIR_REG_PROTO_MIN = 1;
export const NFTA_REDIR_REG_PROTO_MAX = 2;
export const NFTA_REDIR_FLAGS = 3;

/** `redirect to :15001`: destination NAT to this host, in a nat chain of prerouting or output. */
export interface Redirect {
  readonly type: 'redirect';
  /** Register with the port in network byte order; without it the port stays. */
  readonly portRegister?: number;
  /** Register with the last port of a range. Left out: the port is one. */
  readonly lastPortRegister?: number;
  /** `NF_NAT_RANGE_*` bits other than those that follow from the registers: `random` (4), `fully-random` (16). */
  readonly flags?: number;
}

export const redirect: ExpressionCodec<Redirect> = {
  name: 'redir',
  encode({ portRegister, lastPortRegister, flags = 0 }, writer) {
    if (portRegister !== undefined) {
      writer.attrU32be(NFTA_REDIR_REG_PROTO_MIN, portRegister);
      if (lastPortRegister !== undefined) writer.attrU32be(NFTA_REDIR_REG_PROTO_MAX, lastPortRegister);
    }
    const all = flags | (portRegister === undefined ? 0 : NF_NAT_RANGE_PROTO_SPECIFIED);
    if (all !== 0) writer.attrU32be(NFTA_REDIR_FLAGS, all);
  },
  decode(reader) {
    let portRegister: number | undefined;
    let lastPortRegister: number | undefined;
    let flags = 0;
    // The kernel gives back a maximum that is equal to the minimum, too.
    while (reader.next()) {
      if (reader.type === NFTA_REDIR_REG_PROTO_MIN) portRegister = reader.u32be();
      else if (reader.type === NFTA_REDIR_REG_PROTO_MAX) lastPortRegister = reader.u32be();
      else if (reader.type === NFTA_REDIR_FLAGS) flags = reader.u32be() & ~NF_NAT_RANGE_OF_REGISTERS;
    }
    if (lastPortRegister === portRegister) lastPortRegister = undefined;
    return {
      type: 'redirect',
      ...(portRegister === undefined ? {} : { portRegister }),
      ...(lastPortRegister === undefined ? {} : { lastPortRegister }),
      ...(flags === 0 ? {} : { flags }),
    };
  },
};
