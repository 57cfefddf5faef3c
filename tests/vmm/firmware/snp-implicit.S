/* SPDX-License-Identifier: GPL-2.0 */
#include "snp-boot.S"
