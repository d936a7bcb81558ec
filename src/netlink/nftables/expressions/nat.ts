import type { ExpressionCodec } from './codec.ts';

// enum nft_nat_attributes
export const NFTA_NAT_TYPE = 1;
export const NFTA_NAT_FAMILY = 2;
export const NFTA_NAT_REG_ADDR_MIN = 3;
export const NFTA_NAT_REG_ADDR_MAX = 4;
export const NFTA_NAT_REG_PROTO_MIN = 5;
export const NFTA_NAT_REG_PROTO_MAX = 6;
export const NFTA_NAT_FLAGS = 7;

// enum nft_nat_types
export const NFT_NAT_SNAT = 0;
export const NFT_NAT_DNAT = 1;

// <linux/netfilter/nf_nat.h>
export const NF_NAT_RANGE_MAP_IPS = 1;
export const NF_NAT_RANGE_PROTO_SPECIFIED = 2;
/** Those that the registers say. */
export const NF_NAT_RANGE_OF_REGISTERS = NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED;

/**
 * `dnat to 10.244.1.2:15053`, `snat to 10.0.0.1`. With the packet's own address in the register (`dnat to ip daddr`) it is the
 * null NAT: the flow is bound to itself and no later nat chain of the hook sees it (node mode, change 1).
 */
export interface Nat {
  readonly type: 'nat';
  readonly kind: 'snat' | 'dnat';
  /** NFPROTO_IPV4 or NFPROTO_IPV6. */
  readonly family: number;
  /** Register with the address in network byte order. */
  readonly addressRegister?: number;
  /** Register with the port in network byte order. */
  readonly portRegister?: number;
  /** Register with the last address of a range. Left out: the address is one. */
  readonly lastAddressRegister?: number;
  /** Register with the last port of a range. Left out: the port is one. */
  readonly lastPortRegister?: number;
  /** `NF_NAT_RANGE_*` bits other than those that follow from the registers: `random` (4), `persistent` (8), `fully-random` (16). */
  readonly flags?: number;
}

export const nat: ExpressionCodec<Nat> = {
  name: 'nat',
  encode(expression, writer) {
    writer.attrU32be(NFTA_NAT_TYPE, expression.kind === 'snat' ? NFT_NAT_SNAT : NFT_NAT_DNAT);
    writer.attrU32be(NFTA_NAT_FAMILY, expression.family);
    if (expression.addressRegister !== undefined) writer.attrU32be(NFTA_NAT_REG_ADDR_MIN, expression.addressRegister);
    if (expression.lastAddressRegister !== undefined) {
      writer.attrU32be(NFTA_NAT_REG_ADDR_MAX, expression.lastAddressRegister);
    }
    if (expression.portRegister !== undefined) {
      writer.attrU32be(NFTA_NAT_REG_PROTO_MIN, expression.portRegister);
      if (expression.lastPortRegister !== undefined) {
        writer.attrU32be(NFTA_NAT_REG_PROTO_MAX, expression.lastPortRegister);
      }
    }
    const flags = (expression.flags ?? 0) | (expression.portRegister === undefined ? 0 : NF_NAT_RANGE_PROTO_SPECIFIED);
    if (flags !== 0) writer.attrU32be(NFTA_NAT_FLAGS, flags);
  },
  decode(reader) {
    let kind: Nat['kind'] = 'snat';
    let family = 0;
    let addressRegister: number | undefined;
    let portRegister: number | undefined;
    let lastAddressRegister: number | undefined;
    let lastPortRegister: number | undefined;
    let flags = 0;
    // The kernel adds NFTA_NAT_REG_*_MAX, equal to the minimum, and the flags that follow from the registers.
    while (reader.next()) {
      if (reader.type === NFTA_NAT_TYPE) kind = reader.u32be() === NFT_NAT_DNAT ? 'dnat' : 'snat';
      else if (reader.type === NFTA_NAT_FAMILY) family = reader.u32be();
      else if (reader.type === NFTA_NAT_REG_ADDR_MIN) addressRegister = reader.u32be();
      else if (reader.type === NFTA_NAT_REG_PROTO_MIN) portRegister = reader.u32be();
      else if (reader.type === NFTA_NAT_REG_ADDR_MAX) lastAddressRegister = reader.u32be();
      else if (reader.type === NFTA_NAT_REG_PROTO_MAX) lastPortRegister = reader.u32be();
      else if (reader.type === NFTA_NAT_FLAGS) flags = reader.u32be() & ~NF_NAT_RANGE_OF_REGISTERS;
    }
    if (lastAddressRegister === addressRegister) lastAddressRegister = undefined;
    if (lastPortRegister === portRegister) lastPortRegister = undefined;
    return {
      type: 'nat',
      kind,
      family,
      ...(addressRegister === undefined ? {} : { addressRegister }),
      ...(portRegister === undefined ? {} : { portRegister }),
      ...(lastAddressRegister === undefined ? {} : { lastAddressRegister }),
      ...(lastPortRegister === undefined ? {} : { lastPortRegister }),
      ...(flags === 0 ? {} : { flags }),
    };
  },
};
