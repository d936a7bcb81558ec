import type { NetworkNamespace } from '../netns/index.ts';
import {
  AF_PACKET,
  check,
  EAGAIN,
  EINTR,
  ETH_P_ALL,
  errno,
  FileDescriptor,
  libc,
  PACKET_STATISTICS,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOL_PACKET,
  SOL_SOCKET,
  SystemError,
} from '../system/index.ts';
import { LabError } from './errors.ts';

/** Options of {@link PacketCapture.open}. */
export interface PacketCaptureOptions {
  /** What the kernel keeps until it is read, bytes. Default 32 MiB; in a user namespace no more than `net.core.rmem_max`. */
  readonly receiveBufferBytes?: number;
  /** How often the kernel's buffer is emptied. Default 5 ms. */
  readonly intervalMs?: number;
}

/** A TCP segment as it was on the wire. `payload` is only valid during the call. */
export interface TcpSegment {
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
  readonly payload: Buffer;
}

/** With TCP segmentation offload, what passes a veth pair is up to this long, and a header more. */
const MAX_FRAME_BYTES = 65536 + 64;
const ETHERNET_BYTES = 14;

/**
 * A packet socket on one device of a namespace, as tcpdump has it: calls back for each IPv4 TCP segment, both directions. Frames are
 * read on a timer and by {@link drain}; a program that never waits has to drain. Needs CAP_NET_RAW.
 */
export class PacketCapture implements Disposable {
  readonly #descriptor: FileDescriptor;
  readonly #timer: NodeJS.Timeout;
  readonly #onSegment: (segment: TcpSegment) => void;
  readonly #frame = Buffer.allocUnsafeSlow(MAX_FRAME_BYTES);
  #lost = 0;

  /**
   * @returns owned by the caller, who closes it
   * @throws {LabError} `ERR_LAB_CAPTURE` where there is no such device; {@link SystemError} `EPERM`
   */
  static open(
    namespace: NetworkNamespace,
    device: string,
    onSegment: (segment: TcpSegment) => void,
    options: PacketCaptureOptions = {},
  ): PacketCapture {
    const op = 'lab.capture';
    const [fd, index] = namespace.run(() => [
      // Protocol 0: nothing is received before bind(), so nothing of other devices.
      check(libc().socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), 'socket', 'AF_PACKET', op),
      libc().if_nametoindex(device),
    ]);
    const descriptor = new FileDescriptor(fd, `packet socket on ${device}`);
    try {
      if (index === 0) throw new LabError({ code: 'ERR_LAB_CAPTURE', op, message: `no device ${device} there` });
      const bytes = Int32Array.of(options.receiveBufferBytes ?? 32 << 20);
      if (libc().setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes, 4) !== 0) {
        check(libc().setsockopt(fd, SOL_SOCKET, SO_RCVBUF, bytes, 4), 'setsockopt', 'SO_RCVBUF', op);
      }
      // struct sockaddr_ll: family, protocol in network order, index
      const address = Buffer.alloc(20);
      address.writeUInt16LE(AF_PACKET, 0);
      address.writeUInt16BE(ETH_P_ALL, 2);
      address.writeInt32LE(index, 4);
      check(libc().bind(fd, address, address.length), 'bind', device, op);
      return new PacketCapture(descriptor, onSegment, options.intervalMs ?? 5);
    } catch (error) {
      descriptor.close();
      throw error;
    }
  }

  private constructor(descriptor: FileDescriptor, onSegment: (segment: TcpSegment) => void, intervalMs: number) {
    this.#descriptor = descriptor;
    this.#onSegment = onSegment;
    this.#timer = setInterval(() => this.drain(), intervalMs);
    this.#timer.unref();
  }

  /** Reads what the kernel has kept so far. */
  drain(): void {
    const { fd } = this.#descriptor;
    for (;;) {
      const length = libc().recvData(fd, this.#frame, this.#frame.length, 0);
      if (length > 0) {
        this.#read(this.#frame.subarray(0, length));
        continue;
      }
      const reason = errno();
      if (length === 0 || reason === EINTR) continue;
      if (reason === EAGAIN) return;
      throw new SystemError({ syscall: 'recv', errno: reason, subject: this.#descriptor.subject, op: 'lab.capture' });
    }
  }

  /** How many frames the kernel dropped since the capture began: 0, or what was seen is not all there was. */
  lost(): number {
    const statistics = new Uint32Array(2);
    const bytes = new Uint8Array(statistics.buffer);
    const length = Int32Array.of(8);
    const { fd } = this.#descriptor;
    check(libc().getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, bytes, length), 'getsockopt', 'PACKET_STATISTICS');
    // The kernel starts anew with each reading.
    this.#lost += statistics[1]!;
    return this.#lost;
  }

  /** A second call does nothing. */
  close(): void {
    clearInterval(this.#timer);
    this.#descriptor.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #read(frame: Buffer): void {
    if (frame.length < ETHERNET_BYTES + 40 || frame.readUInt16BE(12) !== 0x0800) return;
    const ip = frame.subarray(ETHERNET_BYTES);
    const headerBytes = (ip[0]! & 0xf) * 4;
    const totalBytes = ip.readUInt16BE(2);
    if (ip[9] !== 6 || ip.length < headerBytes + 20) return;
    const tcp = ip.subarray(headerBytes);
    const payloadAt = headerBytes + (tcp[12]! >> 4) * 4;
    // A frame longer than the length field can say has 0 there (BIG TCP).
    const end = totalBytes === 0 ? ip.length : Math.min(totalBytes, ip.length);
    this.#onSegment({
      source: quad(ip, 12),
      sourcePort: tcp.readUInt16BE(0),
      destination: quad(ip, 16),
      destinationPort: tcp.readUInt16BE(2),
      payload: ip.subarray(Math.min(payloadAt, end), end),
    });
  }
}

function quad(bytes: Buffer, at: number): string {
  return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`;
}
