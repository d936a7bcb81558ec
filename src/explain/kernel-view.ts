import type { ConntrackEntry } from '../netlink/conntrack/index.ts';
import type { Chain, InstalledRule, Table, Verdict } from '../netlink/nftables/index.ts';
import type { Link, ListedAddress, ListedRoute, ListedRule } from '../netlink/route/index.ts';

/** A set or map, with its keys as bytes: unlike `listSets`, any key type, and it says what kind of set it is. */
export interface ViewSet {
  readonly table: Table;
  readonly name: string;
  /** `ranges`: of one value a key; `fields`: ranges of several values a key; `other`: only an empty one can be judged. */
  readonly kind: 'keys' | 'ranges' | 'fields' | 'other';
  /** Bytes of one key. */
  readonly keyBytes: number;
  /** Of `fields`: bytes of each, in the order of the key, where each begins at a multiple of four. */
  readonly fieldBytes?: readonly number[];
  readonly elements: readonly ViewElement[];
}

/** A key in hexadecimal, in the byte order of a register. Of `ranges`, each range is a first key and a key behind the last, `end`. */
export interface ViewElement {
  readonly key: string;
  readonly end: boolean;
  /** Of `fields`: the last key, which is part of the range, field by field. */
  readonly last?: string;
  /** Stands for every key that no other element has (`*`); its own key says nothing. */
  readonly isRest?: boolean;
  /** Of a map: the value in hexadecimal, or the verdict. */
  readonly value?: string;
  readonly verdict?: Verdict;
}

/** A set of ipset, which rules of xtables ask by its number. */
export interface ViewIpset {
  readonly index: number;
  readonly name: string;
  readonly type: string;
  readonly family: 4 | 6;
  /** Left out where the set has something else than addresses, ranges and ports. */
  readonly members?: readonly IpsetMember[];
}

/** One member of an ipset, such as `10.0.0.0/8,udp:53`. */
export interface IpsetMember {
  /** Ranges, one for each address that the set's type has. */
  readonly ranges: readonly string[];
  readonly port?: number;
  /** IPPROTO_…; left out where any will do. */
  readonly protocol?: number;
  /** `nomatch`: what it has is taken out of a wider range. */
  readonly isExcluded?: boolean;
}

/** A socket that takes new connections, or any UDP socket. */
export interface Listener {
  readonly protocol: 'tcp' | 'udp';
  readonly family: 4 | 6;
  /** `0.0.0.0` or `::` for any; the latter takes IPv4 too, as far as this view knows. */
  readonly ip: string;
  readonly port: number;
}

/** How one device treats what comes in by it (IPv4), the higher of its own and `all` where the kernel has it so. */
export interface DeviceSettings {
  /** rp_filter: 0 off, 1 the answer must leave by this device, 2 it must leave by any. */
  readonly reversePathFilter: number;
  /** accept_local: packets with one of our own addresses as their source may come in. */
  readonly acceptLocal: boolean;
  /** src_valid_mark: the mark counts in that lookup. */
  readonly sourceValidMark: boolean;
  readonly forwarding: boolean;
}

/**
 * What decides about packets in one namespace, as plain data: {@link readKernelView} reads it, a test may write it. Nothing outside
 * of it is asked. It does not hold what netdev, bridge and arp tables, flowtables, tc and XDP do before or beside these rules.
 */
export interface KernelView {
  /**
   * In the kernel's order: of two with the same place, the later one was made later. Those of iptables-legacy are in tables named
   * `nat (legacy)`.
   */
  readonly chains: readonly Chain[];
  readonly rules: readonly InstalledRule[];
  readonly sets: readonly ViewSet[];
  /** Those that rules name. */
  readonly ipsets: readonly ViewIpset[];
  /** In the order in which they are asked. */
  readonly policyRules: readonly ListedRule[];
  readonly routes: readonly ListedRoute[];
  readonly links: readonly Link[];
  readonly addresses: readonly ListedAddress[];
  readonly connections: readonly ConntrackEntry[];
  readonly listeners: readonly Listener[];
  /** IPv4, by device name. */
  readonly devices: Readonly<Record<string, DeviceSettings>>;
  readonly forwarding6: boolean;
  /** What may decide too and is not looked at: `the nftables table netdev filter`, `the services of IPVS`. */
  readonly unseen: readonly string[];
}
