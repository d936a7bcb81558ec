import { type Lab, PacketCapture, type TcpSegment } from '../../lab/index.ts';

const HBONE_PORT = 15008;

/** What passed the link while a scenario ran. */
export interface LinkEvidence {
  /** Where the packet socket is: `node-a eth0`. */
  readonly on: string;
  readonly segments: number;
  /** From or to port 15008, with bytes in them. */
  readonly tunnelSegments: number;
  readonly tunnelBytes: number;
  /** Segments in which the request's own marker can be read, in whatever connection. */
  readonly plaintextSegments: number;
  /** Frames that the kernel had no room for: 0, or the rest says less. */
  readonly lost: number;
}

/** A packet socket on the link between the nodes, which counts and looks for a marker that requests and answers carry. */
export class LinkWatch implements Disposable {
  readonly #capture: PacketCapture;
  readonly #on: string;
  #marker = Buffer.alloc(0);
  #segments = 0;
  #tunnelSegments = 0;
  #tunnelBytes = 0;
  #plaintextSegments = 0;
  #lostBefore = 0;

  constructor(lab: Lab, node: string) {
    this.#on = `${node} eth0`;
    this.#capture = PacketCapture.open(lab.namespace(node), 'eth0', (segment) => this.#see(segment));
  }

  /** Starts anew. */
  begin(marker: string): void {
    this.#capture.drain();
    this.#marker = Buffer.from(marker);
    this.#segments = this.#tunnelSegments = this.#tunnelBytes = this.#plaintextSegments = 0;
    this.#lostBefore = this.#capture.lost();
  }

  /** What was seen since. */
  end(): LinkEvidence {
    this.#capture.drain();
    return {
      on: this.#on,
      segments: this.#segments,
      tunnelSegments: this.#tunnelSegments,
      tunnelBytes: this.#tunnelBytes,
      plaintextSegments: this.#plaintextSegments,
      lost: this.#capture.lost() - this.#lostBefore,
    };
  }

  close(): void {
    this.#capture.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #see({ sourcePort, destinationPort, payload }: TcpSegment): void {
    this.#segments++;
    if (payload.length === 0) return;
    if (sourcePort === HBONE_PORT || destinationPort === HBONE_PORT) {
      this.#tunnelSegments++;
      this.#tunnelBytes += payload.length;
    }
    if (this.#marker.length > 0 && payload.includes(this.#marker)) this.#plaintextSegments++;
  }
}
