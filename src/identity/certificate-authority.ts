import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import { Certificate, readCertificates } from './certificate.ts';
import {
  authorityExtensions,
  authorityName,
  EMPTY_NAME,
  keyIdentifier,
  leafExtensions,
  signCertificate,
} from './certificate-writer.ts';
import { type Clock, systemClock } from './clock.ts';
import { readCsr } from './csr.ts';
import { duration, quoted, refuse, refuseInput } from './errors.ts';
import { PrivateKey } from './private-key.ts';
import { isTrustDomain, parseSpiffeId, type SpiffeId } from './spiffe-id.ts';
import { bundlePem, type WorkloadCertificate, workloadCertificate } from './workload-certificate.ts';

const DAY_MS = 86_400_000;

/** What a {@link CertificateAuthority} takes from outside. */
export interface AuthorityEnvironment {
  /** Default {@link systemClock}. */
  readonly clock?: Pick<Clock, 'now'>;
  /** Gives `length` random bytes, for serial numbers and names. Default `crypto.randomBytes`. Keys always come from OpenSSL. */
  readonly random?: (length: number) => Uint8Array;
}

/** Options of {@link CertificateAuthority.create}. */
export interface CreateAuthorityOptions extends AuthorityEnvironment {
  readonly trustDomain: string;
  /** Life of the root. Default 10 years. */
  readonly rootTtlMs?: number;
  /** Life of the intermediate, cut at the root's end. Default 1 year. */
  readonly intermediateTtlMs?: number;
  /** How far certificates are dated back, for peers whose clock is behind. Default 2 minutes, as istiod does. */
  readonly notBeforeSkewMs?: number;
  readonly signal?: AbortSignal;
}

/** Options of {@link CertificateAuthority.createIntermediate}. */
export interface CreateIntermediateOptions {
  /** Part of the common name, for people: a node's name. Default `intermediate`. */
  readonly name?: string;
  /** Life, cut at the root's end. Default 1 year. */
  readonly ttlMs?: number;
  /** Default 2 minutes. */
  readonly notBeforeSkewMs?: number;
  readonly signal?: AbortSignal;
}

/** An authority as PEM texts. `keyPem` and `rootKeyPem` are secrets, not encrypted. */
export interface AuthorityMaterial {
  readonly trustDomain: string;
  /** The certificate that signs leaves, and the intermediates above it; empty where the root itself signs. */
  readonly chainPem: string;
  readonly rootsPem: string;
  readonly keyPem: string;
  /** Only where further intermediates may be made of it. */
  readonly rootKeyPem?: string | undefined;
}

/** What {@link CertificateAuthority.issue} is asked for. */
export interface IssueOptions {
  /** Whose certificate. Needed without a `csr`; beside one it must be what the `csr` asks for. */
  readonly identity?: SpiffeId;
  /** PEM or DER. Without it a key is made, and comes with the certificate. */
  readonly csr?: string | Uint8Array;
  /** Life from now on, cut at the issuer's end. Default 24 hours; at most 90 days, as istiod. */
  readonly ttlMs?: number;
  /** How far the leaf is dated back. Default 2 minutes, as istiod does. */
  readonly notBeforeSkewMs?: number;
  readonly signal?: AbortSignal | undefined;
}

interface Issuer {
  readonly key: PrivateKey;
  readonly certificate: Certificate;
}

/**
 * A certificate authority in this process, for tests, demos and meshes without Kubernetes: a root, an intermediate that
 * signs leaves, and leaves as Istio's (P-256, empty subject, one critical URI SAN, serverAuth and clientAuth).
 *
 * The object owns its keys as long as it lives; they leave it by {@link CertificateAuthority.export} alone. It holds no
 * timer and no descriptor, hence there is nothing to close.
 */
export class CertificateAuthority {
  readonly trustDomain: string;
  readonly #issuer: Issuer;
  readonly #root: Issuer | undefined;
  /** What stands between a leaf and the roots, the issuer of leaves first. */
  readonly #chain: readonly Certificate[];
  readonly #roots: readonly Certificate[];
  readonly #clock: Pick<Clock, 'now'>;
  readonly #random: (length: number) => Uint8Array;

  private constructor(
    trustDomain: string,
    issuer: Issuer,
    root: Issuer | undefined,
    chain: readonly Certificate[],
    roots: readonly Certificate[],
    environment: AuthorityEnvironment,
  ) {
    this.trustDomain = trustDomain;
    this.#issuer = issuer;
    this.#root = root;
    this.#chain = chain;
    this.#roots = roots;
    this.#clock = environment.clock ?? systemClock;
    this.#random = environment.random ?? randomBytes;
  }

  /**
   * Makes a root of its own and an intermediate below it.
   *
   * @throws {InvalidInputError} `ERR_IDENTITY_INVALID` with `field` naming the option.
   */
  static async create(options: CreateAuthorityOptions): Promise<CertificateAuthority> {
    const op = 'identity.createAuthority';
    const trustDomain = checkTrustDomain(options.trustDomain, op);
    const ttlMs = duration(options.rootTtlMs ?? 3650 * DAY_MS, 'rootTtlMs', op, 1000, 36_500 * DAY_MS);
    const skewMs = duration(options.notBeforeSkewMs ?? 120_000, 'notBeforeSkewMs', op, 0, DAY_MS);
    const nowMs = (options.clock ?? systemClock).now();
    const random = options.random ?? randomBytes;
    const key = await PrivateKey.generate();
    options.signal?.throwIfAborted();
    const name = authorityName(trustDomain, `ambient-kit root ${hex(random(4))}`);
    const identifier = keyIdentifier(key.publicKeyDer);
    const root = new Certificate(
      signCertificate(
        {
          serialNumber: serialNumber(random),
          issuer: name,
          subject: name,
          notBeforeMs: nowMs - skewMs,
          notAfterMs: nowMs + ttlMs,
          publicKeyDer: key.publicKeyDer,
          extensions: authorityExtensions(1, identifier, identifier),
        },
        key,
      ),
    );
    const issuer = { key, certificate: root };
    const authority = new CertificateAuthority(trustDomain, issuer, issuer, [], [root], options);
    return authority.#intermediate({
      ttlMs: options.intermediateTtlMs ?? 365 * DAY_MS,
      ttlField: 'intermediateTtlMs',
      name: 'intermediate',
      skewMs,
      keepRoot: true,
      signal: options.signal,
    });
  }

  /**
   * Takes up an authority from PEM texts: an exported one, or the files of Istio's `cacerts` secret (`ca-key.pem`,
   * `cert-chain.pem` beginning with `ca-cert.pem`, `root-cert.pem`).
   *
   * @throws {InvalidInputError} `ERR_IDENTITY_PEM`, `ERR_IDENTITY_KEY`, `ERR_IDENTITY_INVALID`.
   * @throws {IdentityError} `ERR_IDENTITY_KEY_MISMATCH`; `ERR_IDENTITY_NOT_A_CA`; `ERR_IDENTITY_SIGNATURE` when one
   *   certificate of the chain is not signed by the next, or the last one by no root. Validity is looked at when issuing.
   */
  static load(material: AuthorityMaterial & AuthorityEnvironment): CertificateAuthority {
    const op = 'identity.loadAuthority';
    const trustDomain = checkTrustDomain(material.trustDomain, op);
    const roots = readCertificates(material.rootsPem, 'rootsPem');
    if (roots.length === 0) invalid(op, 'rootsPem', 'no certificate');
    const key = PrivateKey.fromPem(material.keyPem);
    const given = readCertificates(material.chainPem, 'chainPem', 8);
    const chain = given.filter((certificate) => !roots.some((root) => root.equals(certificate)));
    const certificate = chain[0] ?? roots.find(({ publicKeyDer }) => key.matches(publicKeyDer)) ?? roots[0]!;
    if (!key.matches(certificate.publicKeyDer))
      refuse({
        code: 'ERR_IDENTITY_KEY_MISMATCH',
        op,
        field: 'keyPem',
        message: 'not the key of the issuing certificate',
      });
    if (!certificate.basicConstraints?.ca)
      refuse({
        code: 'ERR_IDENTITY_NOT_A_CA',
        op,
        field: 'chainPem[0]',
        message: 'the issuing certificate is not a CA',
      });
    checkLinks(chain, roots, op);
    return new CertificateAuthority(
      trustDomain,
      { key, certificate },
      rootIssuer(material.rootKeyPem, roots, op),
      chain,
      roots,
      material,
    );
  }

  /** The trust anchors, PEM. */
  get rootsPem(): string {
    return bundlePem(this.#roots);
  }

  /** Until when this authority can issue: the end of the certificate that signs leaves. */
  get notAfter(): Date {
    return new Date(this.#issuer.certificate.notAfterMs);
  }

  /**
   * Makes an authority with an intermediate and a key of its own below the same root, and without the root's key: what one
   * node gets, so that losing it costs one intermediate.
   *
   * @throws {IdentityError} `ERR_IDENTITY_NO_ROOT_KEY` where this authority was loaded without it; `ERR_IDENTITY_CA_EXPIRED`.
   * @throws {InvalidInputError} `ERR_IDENTITY_INVALID`.
   */
  async createIntermediate(options: CreateIntermediateOptions = {}): Promise<CertificateAuthority> {
    const op = 'identity.createIntermediate';
    const name = options.name ?? 'intermediate';
    // RFC 5280 appendix A.1: ub-common-name is 64, of which the prefix and the random suffix take 21.
    if (!/^[\x20-\x7e]{1,43}$/.test(name)) invalid(op, 'name', 'expected 1 to 43 printable ASCII characters');
    return this.#intermediate({
      name,
      ttlMs: options.ttlMs ?? 365 * DAY_MS,
      ttlField: 'ttlMs',
      skewMs: duration(options.notBeforeSkewMs ?? 120_000, 'notBeforeSkewMs', op, 0, DAY_MS),
      keepRoot: false,
      signal: options.signal,
    });
  }

  /**
   * Issues a workload's certificate. The serial number has 126 random bits. Asks nobody whether the asker may have that
   * identity: that was the caller's to decide.
   *
   * @throws {InvalidInputError} `ERR_IDENTITY_SPIFFE_ID`, `ERR_IDENTITY_CSR`, `ERR_IDENTITY_PEM`, `ERR_IDENTITY_INVALID`.
   * @throws {IdentityError} `ERR_IDENTITY_TRUST_DOMAIN` for an identity of another trust domain;
   *   `ERR_IDENTITY_CA_EXPIRED` when the issuer's own time is over or has not come.
   */
  async issue(options: IssueOptions): Promise<WorkloadCertificate> {
    const op = 'identity.issue';
    options.signal?.throwIfAborted();
    const ttlMs = duration(options.ttlMs ?? DAY_MS, 'ttlMs', op, 1000, 90 * DAY_MS);
    const skewMs = duration(options.notBeforeSkewMs ?? 120_000, 'notBeforeSkewMs', op, 0, DAY_MS);
    const request = options.csr === undefined ? undefined : readCsr(options.csr);
    const named = options.identity === undefined ? undefined : parseSpiffeId(options.identity);
    const identity = named ?? request?.identity;
    if (identity === undefined) return invalid(op, 'identity', 'needed without a csr');
    if (request !== undefined && request.identity.id !== identity.id)
      invalid(op, 'identity', `the csr asks for ${quoted(request.identity.id)}`);
    if (identity.trustDomain !== this.trustDomain)
      refuse({
        code: 'ERR_IDENTITY_TRUST_DOMAIN',
        op,
        field: 'identity',
        message: `${quoted(identity.id)} is not of the trust domain ${this.trustDomain}`,
      });
    const key = request === undefined ? await PrivateKey.generate() : undefined;
    options.signal?.throwIfAborted();

    const issuer = this.#issuer;
    const nowMs = this.#clock.now();
    checkTime(issuer.certificate, nowMs, op);
    const publicKeyDer = request?.publicKeyDer ?? key!.publicKeyDer;
    const leaf = signCertificate(
      {
        serialNumber: serialNumber(this.#random),
        issuer: issuer.certificate.subject,
        subject: EMPTY_NAME,
        notBeforeMs: nowMs - skewMs,
        notAfterMs: Math.min(nowMs + ttlMs, issuer.certificate.notAfterMs),
        publicKeyDer,
        extensions: leafExtensions(identity.id, identifierOf(issuer.certificate)),
      },
      issuer.key,
    );
    return workloadCertificate(identity.id, [new Certificate(leaf), ...this.#chain], this.#roots, key);
  }

  /** Everything that {@link CertificateAuthority.load} needs, keys included, not encrypted: the caller now owns secrets. */
  export(): AuthorityMaterial {
    return {
      trustDomain: this.trustDomain,
      chainPem: bundlePem(this.#chain),
      rootsPem: bundlePem(this.#roots),
      keyPem: this.#issuer.key.exportPem(),
      ...(this.#root === undefined ? {} : { rootKeyPem: this.#root.key.exportPem() }),
    };
  }

  toJSON(): { trustDomain: string; notAfter: Date } {
    return { trustDomain: this.trustDomain, notAfter: this.notAfter };
  }

  [inspect.custom](): string {
    return `CertificateAuthority(${this.trustDomain}, until ${this.notAfter.toISOString()})`;
  }

  async #intermediate(options: {
    readonly name: string;
    readonly ttlMs: number;
    readonly ttlField: string;
    readonly skewMs: number;
    readonly keepRoot: boolean;
    readonly signal: AbortSignal | undefined;
  }): Promise<CertificateAuthority> {
    const op = 'identity.createIntermediate';
    const root = this.#root;
    if (root === undefined)
      refuse({ code: 'ERR_IDENTITY_NO_ROOT_KEY', op, message: 'this authority was made without the key of its root' });
    const ttlMs = duration(options.ttlMs, options.ttlField, op, 1000, 36_500 * DAY_MS);
    options.signal?.throwIfAborted();
    const key = await PrivateKey.generate();
    options.signal?.throwIfAborted();
    const nowMs = this.#clock.now();
    checkTime(root.certificate, nowMs, op);
    const certificate = new Certificate(
      signCertificate(
        {
          serialNumber: serialNumber(this.#random),
          issuer: root.certificate.subject,
          subject: authorityName(this.trustDomain, `ambient-kit ${options.name} ${hex(this.#random(4))}`),
          notBeforeMs: nowMs - options.skewMs,
          notAfterMs: Math.min(nowMs + ttlMs, root.certificate.notAfterMs),
          publicKeyDer: key.publicKeyDer,
          extensions: authorityExtensions(0, keyIdentifier(key.publicKeyDer), identifierOf(root.certificate)),
        },
        root.key,
      ),
    );
    return new CertificateAuthority(
      this.trustDomain,
      { key, certificate },
      options.keepRoot ? root : undefined,
      [certificate],
      this.#roots,
      { clock: this.#clock, random: this.#random },
    );
  }
}

/** Sixteen random bytes with the two top bits set to 01: positive, never zero, always of the same length. */
function serialNumber(random: (length: number) => Uint8Array): Uint8Array {
  const serial = Uint8Array.from(random(16));
  serial[0] = (serial[0]! & 0x3f) | 0x40;
  return serial;
}

function identifierOf(certificate: Certificate): Uint8Array {
  return certificate.subjectKeyIdentifier ?? keyIdentifier(certificate.publicKeyDer);
}

function checkTime(certificate: Certificate, nowMs: number, op: string): void {
  if (nowMs >= certificate.notBeforeMs && nowMs < certificate.notAfterMs) return;
  const from = new Date(certificate.notBeforeMs).toISOString();
  const until = new Date(certificate.notAfterMs).toISOString();
  refuse({
    code: 'ERR_IDENTITY_CA_EXPIRED',
    op,
    message: `the signing certificate is valid from ${from} until ${until}`,
  });
}

function checkLinks(chain: readonly Certificate[], roots: readonly Certificate[], op: string): void {
  const signs = (issuer: Certificate, signed: Certificate) => signed.namesAsIssuer(issuer) && signed.signedBy(issuer);
  chain.forEach((certificate, at) => {
    const field = `chainPem[${at}]`;
    if (!certificate.basicConstraints?.ca) refuse({ code: 'ERR_IDENTITY_NOT_A_CA', op, field, message: 'is not a CA' });
    const next = chain[at + 1];
    if (next === undefined ? roots.some((root) => signs(root, certificate)) : signs(next, certificate)) return;
    const message = next === undefined ? 'not signed by any of the roots' : 'not signed by the next in the chain';
    refuse({ code: 'ERR_IDENTITY_SIGNATURE', op, field, message });
  });
}

function rootIssuer(pem: string | undefined, roots: readonly Certificate[], op: string): Issuer | undefined {
  if (pem === undefined) return undefined;
  const key = PrivateKey.fromPem(pem);
  const certificate = roots.find(({ publicKeyDer }) => key.matches(publicKeyDer));
  if (certificate === undefined)
    refuse({ code: 'ERR_IDENTITY_KEY_MISMATCH', op, field: 'rootKeyPem', message: 'not the key of any of the roots' });
  return { key, certificate };
}

function checkTrustDomain(trustDomain: string, op: string): string {
  // RFC 5280 appendix A.1: ub-organization-name is 64, and the trust domain is the organization of the CA's names.
  if (typeof trustDomain === 'string' && isTrustDomain(trustDomain) && trustDomain.length <= 64) return trustDomain;
  return invalid(op, 'trustDomain', `expected 1 to 64 of a-z 0-9 . - _, got ${quoted(String(trustDomain))}`);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function invalid(op: string, field: string, message: string): never {
  refuseInput({ code: 'ERR_IDENTITY_INVALID', op, field, message });
}
