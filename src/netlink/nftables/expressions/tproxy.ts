import type { ExpressionCodec } from './codec.ts';

// enum nft_tproxy_attributes
export const NFTA_TPROXY_FAMILY = 1;
export const NFTA_TPROXY_REG_ADDR = 2;
export const NFTA_TPROXY_REG_PORT = 3;

/**
 * `tproxy to 127.0.0.1:15001`: gives the packet to a local transparent socket without rewriting it. Only in a filter chain of
 * prerouting, and after a match on the l4 protocol.
 *
 * Where no socket listens this *breaks* to the next rule, it does not drop (node mode, change 2): put a drop behind it.
 */
export interface Tproxy {
  readonly type: 'tproxy';
  /** NFPROTO_IPV4, NFPROTO_IPV6, or 0 in a table of family inet with a port alone. */
  readonly family: number;
  /** Register with the address in network byte order; without it, the packet's own destination. */
  readonly addressRegister?: number;
  /** Register with the port in network byte order; without it, the packet's own. */
  readonly portRegister?: number;
}

export const tproxy: ExpressionCodec<Tproxy> = {
  name: 'tproxy',
  encode(expression, writer) {
    writer.attrU32be(NFTA_TPROXY_FAMILY, expression.family);
    if (expression.addressRegister !== undefined) writer.attrU32be(NFTA_TPROXY_REG_ADDR, expression.addressRegister);
    if (expression.portRegister !== undefined) writer.attrU32be(NFTA_TPROXY_REG_PORT, expression.portRegister);
  },
  decode(reader) {
    let family = 0;
    let addressRegister: number | undefined;
    let portRegister: number | undefined;
    while (reader.next()) {
      if (reader.type === NFTA_TPROXY_FAMILY) family = reader.u32be();
      else if (reader.type === NFTA_TPROXY_REG_ADDR) addressRegister = reader.u32be();
      else if (reader.type === NFTA_TPROXY_REG_PORT) portRegister = reader.u32be();
    }
    return {
      type: 'tproxy',
      family,
      ...(addressRegister === undefined ? {} : { addressRegister }),
      ...(portRegister === undefined ? {} : { portRegister }),
    };
  },
};
