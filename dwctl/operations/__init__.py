"""Operations: one function per administrative act, whoever asks (REST, pages, command line).

Each checks the policy, does its work in one transaction together with its audit row and change notice, and returns when
this node serves what was changed.
"""
