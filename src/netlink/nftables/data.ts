import type { AttributeReader } from '../attribute-reader.ts';
import type { MessageWriter } from '../message-writer.ts';
import { NFTA_DATA_VALUE } from './constants.ts';

/** Writes `attribute { NFTA_DATA_VALUE value }`: how nf_tables carries the contents of a register. */
export function writeValue(writer: MessageWriter, attribute: number, value: Uint8Array): void {
  writer.nest(attribute, (data) => {
    data.attrBytes(NFTA_DATA_VALUE, value);
  });
}

/** Reads what {@link writeValue} writes; a copy, since the message's buffer is used again. Empty where there is no value. */
export function readValue(reader: AttributeReader): Buffer {
  const data = reader.nested();
  while (data.next()) if (data.type === NFTA_DATA_VALUE) return Buffer.from(data.bytes());
  return Buffer.alloc(0);
}

/** A 32-bit number in host byte order, which is how marks and connection states lie in a register. */
export function hostU32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

/** A 16-bit number in host byte order, which is how a conntrack zone lies in a register. */
export function hostU16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

/** A 16-bit number in network byte order, which is how ports lie in a register. */
export function networkU16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
