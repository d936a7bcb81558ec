// Object identifiers as RFC 5280, 5480, 4055, 5758, 8410 and 2986 assign them.

export const ID_EC_PUBLIC_KEY = '1.2.840.10045.2.1';
export const ID_PRIME256V1 = '1.2.840.10045.3.1.7';

export const ECDSA_WITH_SHA256 = '1.2.840.10045.4.3.2';
export const ECDSA_WITH_SHA384 = '1.2.840.10045.4.3.3';
export const ECDSA_WITH_SHA512 = '1.2.840.10045.4.3.4';
export const RSA_WITH_SHA256 = '1.2.840.113549.1.1.11';
export const RSA_WITH_SHA384 = '1.2.840.113549.1.1.12';
export const RSA_WITH_SHA512 = '1.2.840.113549.1.1.13';
export const ID_ED25519 = '1.3.101.112';

export const ID_AT_COMMON_NAME = '2.5.4.3';
export const ID_AT_ORGANIZATION = '2.5.4.10';

export const ID_CE_SUBJECT_KEY_IDENTIFIER = '2.5.29.14';
export const ID_CE_KEY_USAGE = '2.5.29.15';
export const ID_CE_SUBJECT_ALT_NAME = '2.5.29.17';
export const ID_CE_BASIC_CONSTRAINTS = '2.5.29.19';
export const ID_CE_AUTHORITY_KEY_IDENTIFIER = '2.5.29.35';
export const ID_CE_EXT_KEY_USAGE = '2.5.29.37';

export const ID_KP_SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
export const ID_KP_CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

/** The PKCS#9 attribute that carries the extensions a certificate request asks for. */
export const ID_EXTENSION_REQUEST = '1.2.840.113549.1.9.14';
