import { isComplete } from './explain-packet.ts';
import type { Ending, Explanation } from './explanation.ts';

/** What a packet crosses between two looks at rules. */
export type Passage =
  | { readonly kind: 'veth'; readonly device: string; readonly peer: string; readonly namespace: string }
  /** `because`: how it is known that the bridge has the next address at that port. */
  | {
      readonly kind: 'bridge';
      readonly bridge: string;
      readonly port: string;
      readonly because: 'forwarding table' | 'address';
    }
  | { readonly kind: 'tunnel'; readonly device: string; readonly protocol: 'geneve' | 'vxlan'; readonly id: number }
  /** The other end of the tunnel gives back what was put in. */
  | { readonly kind: 'tunnel-end'; readonly device: string; readonly namespace: string };

/** One namespace of the way: what it does with the packet, and how the packet goes on from there. */
export interface Hop {
  /** As `--netns` takes it, or `this namespace`. */
  readonly namespace: string;
  /** Inside of how many tunnels the packet that is followed is at this point. */
  readonly tunnels: number;
  readonly explanation: Explanation;
  readonly passages: readonly Passage[];
}

/** How far a packet could be followed. */
export type JourneyEnding =
  /** The last hop says it all: delivered, dropped, or not to be told. */
  | { readonly kind: 'settled' }
  /** By a device whose other end is not in a namespace of this machine. */
  | { readonly kind: 'left'; readonly device: string; readonly what: string }
  | { readonly kind: 'lost'; readonly reason: string };

/** A packet's way through the namespaces of this machine. */
export interface Journey {
  readonly hops: readonly Hop[];
  readonly ending: JourneyEnding;
  /** Of the last hop. */
  readonly last: Ending;
}

/** Whether all of it was judged, and it was followed to its end or out of the machine. */
export function isWhole({ hops, ending }: Journey): boolean {
  return ending.kind !== 'lost' && hops.every(({ explanation }) => isComplete(explanation));
}
