import { AttributeReader } from '../attribute-reader.ts';
import { NLM_F_DUMP } from '../constants.ts';
import { MessageWriter } from '../message-writer.ts';
import type { Netlink } from '../netlink.ts';
import * as c from './constants.ts';
import { formatHardwareAddress } from './input.ts';
import { linkNames } from './link.ts';

const AF_BRIDGE = 7;
const NDA_MASTER = 9;
const NUD_PERMANENT = 0x80;

/** Where a bridge has seen a hardware address, what `bridge fdb` lists. */
export interface ForwardingEntry {
  /** `02:00:5e:10:00:01`. */
  readonly address: string;
  /** The port, by name; of an address of the bridge itself, the bridge. */
  readonly device: string;
  /** The bridge; undefined for a device's own list. */
  readonly bridge: string | undefined;
  /** An address of a port or of the bridge: what is sent to it is for this namespace. */
  readonly isLocal: boolean;
}

/** The forwarding tables of every bridge of the namespace. */
export function listForwardingEntries(netlink: Netlink): ForwardingEntry[] {
  const names = linkNames(netlink);
  const writer = new MessageWriter().begin(c.RTM_GETNEIGH, NLM_F_DUMP);
  writer.u8(AF_BRIDGE).bytes(new Uint8Array(c.NDMSG_BYTES - 1));
  const entries: ForwardingEntry[] = [];
  for (const { type, payload } of netlink.request(writer.end().finish(), { op: 'route.listForwardingEntries' })) {
    if (type !== c.RTM_NEWNEIGH || payload[0] !== AF_BRIDGE) continue;
    const reader = new AttributeReader(payload, c.NDMSG_BYTES);
    let address = '';
    let bridge: string | undefined;
    while (reader.next()) {
      if (reader.type === c.NDA_LLADDR && reader.length === 6) address = formatHardwareAddress(reader.bytes());
      else if (reader.type === NDA_MASTER) bridge = names.get(reader.u32());
    }
    reader.check();
    const device = names.get(payload.readInt32LE(4));
    const isLocal = (payload.readUInt16LE(8) & NUD_PERMANENT) !== 0;
    if (device !== undefined && address !== '') entries.push({ address, device, bridge, isLocal });
  }
  return entries;
}
