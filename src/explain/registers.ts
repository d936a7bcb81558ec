/** A byte that is not known. */
export const UNKNOWN = -1;

/** Bytes of a packet or register, each 0 to 255 or {@link UNKNOWN}. */
export type Bytes = readonly number[];

const REGISTER_BYTES = 64;
/** enum nft_registers: 1 to 4 have 16 bytes, 8 to 23 are the same memory in pieces of 4. */
const NFT_REG32_00 = 8;

/** The registers that one rule's expressions work on; what was not loaded is unknown. */
export class Registers {
  readonly #bytes = new Array<number>(REGISTER_BYTES).fill(UNKNOWN);

  load(register: number, bytes: Bytes): void {
    const at = offsetOf(register);
    // As the kernel does: the rest of the last 32-bit word is zero.
    const end = Math.min(at + Math.ceil(bytes.length / 4) * 4, REGISTER_BYTES);
    for (let i = at; i < end; i++) this.#bytes[i] = bytes[i - at] ?? 0;
  }

  read(register: number, length: number): number[] {
    const at = offsetOf(register);
    return Array.from({ length }, (_, i) => this.#bytes[at + i] ?? UNKNOWN);
  }

  /** After an expression that cannot be judged: any register may hold anything. */
  forget(): void {
    this.#bytes.fill(UNKNOWN);
  }
}

function offsetOf(register: number): number {
  return register >= NFT_REG32_00 ? (register - NFT_REG32_00) * 4 : (register - 1) * 16;
}

export function unknownBytes(length: number): number[] {
  return new Array<number>(length).fill(UNKNOWN);
}

export function isKnown(bytes: Bytes): boolean {
  return !bytes.includes(UNKNOWN);
}

/** A number in host byte order (little-endian), or unknown bytes. */
export function hostBytes(value: number | undefined, length: number): number[] {
  if (value === undefined) return unknownBytes(length);
  return Array.from({ length }, (_, i) => Math.floor(value / 2 ** (8 * i)) % 256);
}

/** What {@link hostBytes} makes; undefined where a byte is unknown. */
export function hostNumber(bytes: Bytes): number | undefined {
  if (!isKnown(bytes)) return undefined;
  return bytes.reduceRight((value, byte) => value * 256 + byte, 0);
}

/** A number in network byte order, or unknown bytes. */
export function networkBytes(value: number | undefined, length: number): number[] {
  return hostBytes(value, length).reverse();
}

export function networkNumber(bytes: Bytes): number | undefined {
  return hostNumber([...bytes].reverse());
}

export function hexOf(bytes: Bytes): string {
  return bytes.map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
