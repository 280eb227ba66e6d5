2
denylist
reject_force_umount
[all]
kexec_load errno 1
kexec_file_load errno 1
open_by_handle_at errno 1
init_module errno 1
finit_module errno 1
delete_module errno 1
bpf errno 1
ioctl errno 25 [1,0x5000940e,SCMP_CMP_MASKED_EQ,0xffffffff]
ioctl errno 25 [1,0x50009401,SCMP_CMP_MASKED_EQ,0xffffffff]
ioctl errno 25 [1,0x50009417,SCMP_CMP_MASKED_EQ,0xffffffff]
ioctl errno 25 [1,0x50009418,SCMP_CMP_MASKED_EQ,0xffffffff]
