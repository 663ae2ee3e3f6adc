/**
 * A self-signed certificate for localhost and 127.0.0.1, and its key. Made for tests, valid for a hundred years, known
 * to everybody.
 */
export const certificate = `-----BEGIN CERTIFICATE-----
MIIBnDCCAUGgAwIBAgIUW4GVqiHyvs5cSSVPS2s2hP9+G74wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTAwMTM1NloYDzIxMjYxMDI4
MDAxMzU2WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARlbD4+Mxlcbv0dTKNrurDJAYiFpd3fKLwfTy2P4A+IfaA7GYje6R98
hmt6Rax7llPlgaU4X+3spa8KFC4+eUvbo28wbTAdBgNVHQ4EFgQUQ6U4D78a9IyI
O/5RJZ8cRl/54zgwHwYDVR0jBBgwFoAUQ6U4D78a9IyIO/5RJZ8cRl/54zgwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSQAwRgIhAOoqfV9c+XdcTJZvsGGaHPBYwYQXbySgCrvQZ1MiwbOMAiEA
w67GfS4Q+wdB5EXpGqK8VjnkuCqi1QfoqXhNg3pRi9s=
-----END CERTIFICATE-----
`

export const privateKey = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQghq26I8rh/SAFKg3m
n7HPhdLXh/Cm9LqlR3ZcC6ktRe+hRANCAARlbD4+Mxlcbv0dTKNrurDJAYiFpd3f
KLwfTy2P4A+IfaA7GYje6R98hmt6Rax7llPlgaU4X+3spa8KFC4+eUvb
-----END PRIVATE KEY-----
`
