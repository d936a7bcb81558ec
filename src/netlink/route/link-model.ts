/** A namespace as netlink names it to the kernel: by an open descriptor. `NetworkNamespace` of `ambient-kit/netns` is one. */
export interface NamespaceReference {
  readonly fd: number;
}

/** What every kind of link may be given when it is made. */
export interface LinkSettings {
  /** 1 to 15 bytes. */
  readonly name: string;
  /** Bytes of the largest packet; the kind's own default if left out. */
  readonly mtu?: number;
  /** Hardware address, `02:00:5e:10:00:01`; random if left out. */
  readonly address?: string;
  readonly up?: boolean;
  /** The bridge this link is a port of, by name. */
  readonly master?: string;
}

/** Two links that are each other's cable; deleting one deletes both. */
export interface VethLink extends LinkSettings {
  readonly kind: 'veth';
  /** The other end. Left out: the kernel names it. In a list: left out where the other end is in another namespace. */
  readonly peer?: VethPeer;
}

/** The other end of a {@link VethLink}. It cannot be made `up`, since it has no peer itself at that moment: `setLink` afterwards. */
export interface VethPeer extends Omit<LinkSettings, 'master' | 'up'> {
  /** Where the other end is made. Default: the same namespace. Never present in a list. */
  readonly namespace?: NamespaceReference;
}

export interface BridgeLink extends LinkSettings {
  readonly kind: 'bridge';
  /** Spanning tree protocol. Default off. */
  readonly stp?: boolean;
}

/** Never sends anything: a place for addresses. */
export interface DummyLink extends LinkSettings {
  readonly kind: 'dummy';
}

/** RFC 8926. */
export interface GeneveLink extends LinkSettings {
  readonly kind: 'geneve';
  /** Virtual network identifier, 24 bits. */
  readonly id: number;
  /** Address of the other end of the tunnel. */
  readonly remote: string;
  /** UDP port, default 6081. */
  readonly port?: number;
}

/** RFC 7348. */
export interface VxlanLink extends LinkSettings {
  readonly kind: 'vxlan';
  /** VXLAN network identifier, 24 bits. */
  readonly id: number;
  /** Address of the other end, or a multicast group. */
  readonly remote?: string;
  readonly local?: string;
  /** The link that carries the tunnel, by name. */
  readonly device?: string;
  /** UDP port, default 4789 (the IANA port; the kernel's own default is older). */
  readonly port?: number;
  /** Whether source addresses fill the forwarding table. Default true. */
  readonly learning?: boolean;
}

/** A link that can be made: what {@link addLink} takes. */
export type LinkSpec = VethLink | BridgeLink | DummyLink | GeneveLink | VxlanLink;

/** A link of any other kind, as it is listed: `lo`, hardware. */
export interface OtherLink extends LinkSettings {
  readonly kind: 'other';
  /** IFLA_INFO_KIND; empty for loopback and hardware. */
  readonly kernelKind: string;
}

/** What only the kernel knows of a link. */
export interface LinkState {
  readonly index: number;
  readonly mtu: number;
  readonly up: boolean;
  /** Whether the cable has something at its other end (IFF_LOWER_UP). */
  readonly carrier: boolean;
  readonly loopback: boolean;
  /** In a veth or tunnel: the index of the link at the other end or below, in that one's namespace (IFLA_LINK). */
  readonly linkIndex: number | undefined;
}

/** A link as it is listed. Unless its kind is `other`, {@link addLink} takes it too. */
export type Link = (LinkSpec | OtherLink) & LinkState;
